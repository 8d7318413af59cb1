/**
 * The page behind a shared link: the server has written it whole, as plain text, and this shows
 * the answers as the chat does. Without it the page is read as it stands.
 */
import { createRoot } from "react-dom/client";
import "@fontsource-variable/inter/index.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/prose.css";
import "./styles/shared.css";
import { Markdown } from "./chat/markdown";
import { Announcer } from "./ui/announce";
import { Toasts } from "./ui/toasts";

for (const place of document.querySelectorAll("[data-markdown]")) {
  // Read as text, as the server escaped it: nothing that was said is ever parsed as HTML.
  createRoot(place).render(<Markdown text={place.textContent} />);
}

const said = document.getElementById("announcer");
if (!said) throw new Error("The page has no #announcer.");
createRoot(said).render(
  <>
    <Toasts />
    <Announcer />
  </>,
);
