// A real Better Auth server on loopback, for tests.
//
//   node better-auth-server.mjs PORT [--plain]
//
// Its database is the one that libpq's variables (PGHOST, PGDATABASE, PGUSER) name; it makes its
// tables there and prints `ready` once it serves. One process plays several servers on the same
// tables: the header `x-variant` of a request says with which algorithm tokens are signed
// (EdDSA, ES256, RS256, HS256), or `cached` (the session is also kept in a signed cookie) or
// `https` (the server believes that it is reached by https).
// With --plain it has no admin plugin, so the columns of that plugin are missing.
// `GET /mail?address=` answers with the token of the last verification mail.
import { createHmac } from "node:crypto";
import http from "node:http";

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { admin, bearer, createJwk, jwt } from "better-auth/plugins";
import pg from "pg";

const [port, ...flags] = process.argv.slice(2);
const plain = flags.includes("--plain");
const secret = process.env.BETTER_AUTH_SECRET;
const baseURL = `http://127.0.0.1:${port}`;
const pool = new pg.Pool({ max: 5 });
const mail = new Map();

const keyPairs = {
  EdDSA: { alg: "EdDSA", crv: "Ed25519" },
  ES256: { alg: "ES256" },
  RS256: { alg: "RS256", modulusLength: 2048 },
};

function signedWithSecret(payload) {
  const segment = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const input = `${segment({ alg: "HS256" })}.${segment(payload)}`;
  return `${input}.${createHmac("sha256", secret).update(input).digest("base64url")}`;
}

function tokens(algorithm) {
  if (algorithm !== "HS256") return jwt({ jwks: { keyPairConfig: keyPairs[algorithm] } });
  const elsewhere = { remoteUrl: `${baseURL}/nowhere`, keyPairConfig: { alg: "HS256" } };
  return jwt({ jwks: elsewhere, jwt: { sign: signedWithSecret } });
}

function options({ algorithm = "EdDSA", ...more } = {}) {
  return {
    database: pool,
    secret,
    baseURL,
    telemetry: { enabled: false },
    rateLimit: { enabled: false },
    emailAndPassword: { enabled: true },
    emailVerification: {
      sendVerificationEmail: async ({ user, token }) => void mail.set(user.email, token),
    },
    plugins: [tokens(algorithm), bearer(), ...(plain ? [] : [admin()])],
    ...more,
  };
}

const variants = {
  EdDSA: options(),
  ES256: options({ algorithm: "ES256" }),
  RS256: options({ algorithm: "RS256" }),
  HS256: options({ algorithm: "HS256" }),
  cached: options({ session: { cookieCache: { enabled: true, strategy: "jwt" } } }),
  https: options({ baseURL: "https://auth.example" }),
};

const { runMigrations } = await getMigrations(variants.EdDSA);
await runMigrations();
const servers = Object.fromEntries(
  Object.entries(variants).map(([name, one]) => [name, betterAuth(one)]),
);
// Without a key of its own algorithm, a server signs with whichever key there is.
const context = await servers.EdDSA.$context;
for (const keyPairConfig of Object.values(keyPairs)) {
  await createJwk({ context }, { jwks: { keyPairConfig } });
}
const handlers = Object.fromEntries(
  Object.entries(servers).map(([name, one]) => [name, toNodeHandler(one)]),
);

const server = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, baseURL);
  if (pathname === "/mail") return response.end(mail.get(searchParams.get("address")) ?? "");
  return handlers[request.headers["x-variant"] ?? "EdDSA"](request, response);
});
server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
process.on("SIGTERM", () => {
  server.close(() => pool.end().then(() => process.exit(0)));
  server.closeAllConnections();
});
