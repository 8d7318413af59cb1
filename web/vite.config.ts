import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const here = dirname(fileURLToPath(import.meta.url));
const outDir = join(here, "../src/chatkeep/web/static");
const server = process.env.CHATKEEP_URL ?? "http://127.0.0.1:8000";

/** The chosen theme must be on the page before the first paint, and no inline script is allowed. */
function themeBeforePaint(): Plugin {
  let id = "";
  return {
    name: "theme-before-paint",
    apply: "build",
    buildStart() {
      const source = readFileSync(join(here, "src/theme-boot.js"), "utf8");
      id = this.emitFile({ type: "asset", name: "theme.js", source });
    },
    transformIndexHtml: {
      order: "post",
      handler(_html, context) {
        const file = Object.values(context.bundle ?? {}).find(
          (output) => output.type === "asset" && output.names.includes("theme.js"),
        );
        if (!file || !id) throw new Error("theme.js was not emitted");
        return [{ tag: "script", attrs: { src: `/${file.fileName}` }, injectTo: "head-prepend" }];
      },
    },
  };
}

/** `/docs`: Swagger UI from our own origin, started by a file because inline scripts are not allowed. */
function apiDocs(): Plugin {
  const swagger = dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));
  return {
    name: "api-docs",
    apply: "build",
    closeBundle() {
      const target = join(outDir, "docs");
      mkdirSync(target, { recursive: true });
      for (const name of ["swagger-ui.css", "swagger-ui-bundle.js", "LICENSE"]) {
        copyFileSync(join(swagger, name), join(target, name));
      }
      copyFileSync(join(here, "src/mark.svg"), join(target, "mark.svg"));
      for (const name of ["index.html", "init.js", "page.css"]) {
        copyFileSync(join(here, "docs", name), join(target, name));
      }
    },
  };
}

/** What is worth it lies there packed, too: the server has nothing to do but choose. */
function packed(): Plugin {
  return {
    name: "packed",
    apply: "build",
    closeBundle: {
      order: "post",
      sequential: true,
      handler() {
        for (const name of readdirSync(outDir, { recursive: true, encoding: "utf8" })) {
          if (!/\.(js|css|svg)$/.test(name)) continue;
          const whole = readFileSync(join(outDir, name));
          const small = gzipSync(whole, { level: 9 });
          if (small.length < whole.length * 0.9) writeFileSync(join(outDir, `${name}.gz`), small);
        }
      },
    },
  };
}

export default defineConfig({
  plugins: [react(), themeBeforePaint(), apiDocs(), packed()],
  build: {
    outDir,
    emptyOutDir: true,
    target: "es2023",
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    assetsInlineLimit: 0,
    sourcemap: false,
    rolldownOptions: { input: [join(here, "index.html"), join(here, "templates/shared.html")] },
  },
  worker: { format: "es" },
  server: {
    proxy: Object.fromEntries(
      ["/api", "/auth", "/openapi.json", "/healthz", "/readyz"].map((path) => [path, server]),
    ),
  },
});
