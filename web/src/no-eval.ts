/** Checks data without making code from text, which the page's Content-Security-Policy forbids. Imported first. */
import { config } from "zod";

config({ jitless: true });
