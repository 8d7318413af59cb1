/** A worker that typesets formulas: one that takes for ever holds up nothing else, and can be ended. */
import { typeset } from "./formula-mathml";

addEventListener("message", ({ data }: MessageEvent<{ tex: string; display: boolean }>) => postMessage(typeset(data.tex, data.display)));
