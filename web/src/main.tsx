/** Starts the page: asks the server who it is, then shows the app. */
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import "@fontsource-variable/inter/index.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/layout.css";
import "./styles/chat.css";
import "./styles/prose.css";
import "./styles/settings.css";
import "./styles/forced-colors.css";
import { problemOf } from "./api";
import { App, Starting } from "./app";
import { AuthProvider } from "./auth";
import { Button, FullPage } from "./ui/controls";
import type { ServerConfig } from "./wire";

const RETRY_MS = 3_000;

async function readConfig(): Promise<ServerConfig> {
  const response = await fetch("/api/config");
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as ServerConfig;
}

function Start() {
  const [config, setConfig] = useState<ServerConfig | null>(null);
  const [failures, setFailures] = useState(0);

  useEffect(() => {
    let current = true;
    const ask = () =>
      readConfig().then(
        (answer) => current && setConfig(answer),
        () => current && setFailures((count) => count + 1),
      );
    const timer = setTimeout(ask, failures === 0 ? 0 : RETRY_MS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [failures]);

  if (config) {
    return (
      <AuthProvider config={config}>
        <App />
      </AuthProvider>
    );
  }
  if (failures === 0) return <Starting />;
  return (
    <FullPage title="The server cannot be reached" actions={<Button tone="primary" icon="refresh" onClick={() => location.reload()}>Try again</Button>}>
      <p>{navigator.onLine ? "It may be restarting." : "You are offline."} This page tries again by itself.</p>
    </FullPage>
  );
}

const root = document.getElementById("root");
if (!root) throw new Error("The page has no #root.");
createRoot(root).render(<Start />);
