// A real (certified) OpenID provider on loopback, for tests, where everybody signs in at once.
//
//   node openid-provider.mjs PORT ALGORITHM [REDIRECT_URI ...]
//
// It prints `ready` once it serves. Who signs in is the `login_hint` of the request. Access tokens
// for the resource https://chat.example/api are JWTs (RFC 9068), the others opaque. The person
// `olga` has the role `operator`, which only whoever runs the provider can give. The address of
// `bob` is not verified, `carol` has none, `mallory` says no, and `dave=x@example.com` is dave
// with that address from now on.
//
// With LOGOUT_URI in the environment it sends a logout token there when somebody signs out. That
// and ID tokens name the session if LOGOUT_NAMES says `session`; access tokens then do as well,
// but for people whose name begins with `plain`.
import { generateKeyPairSync } from "node:crypto";
import http from "node:http";

import { Provider } from "oidc-provider";

const [port, algorithm, ...redirects] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const resource = "https://chat.example/api";
const kinds = {
  RS256: ["rsa", { modulusLength: 2048 }],
  ES256: ["ec", { namedCurve: "P-256" }],
  EdDSA: ["ed25519", {}],
};
const { privateKey } = generateKeyPairSync(...kinds[algorithm]);
const key = { ...privateKey.export({ format: "jwk" }), alg: algorithm, use: "sig", kid: "key-1" };

const { LOGOUT_URI: logoutUri, LOGOUT_NAMES: logoutNames } = process.env;
const told = {
  backchannel_logout_uri: logoutUri,
  backchannel_logout_session_required: logoutNames === "session",
};
const client = {
  ...(logoutUri && told),
  client_id: "chat-web",
  client_secret: "a secret of the test client: 0123456789",
  redirect_uris: ["http://127.0.0.1:9/callback", ...redirects],
  grant_types: ["authorization_code", "refresh_token", "client_credentials"],
  id_token_signed_response_alg: algorithm,
};

const addresses = new Map();
const addressOf = (id) => ({
  ...(id !== "carol" && { email: addresses.get(id) ?? `${id}@example.com` }),
  ...(id !== "carol" && { email_verified: id !== "bob" }),
});

const provider = new Provider(issuer, {
  clients: [client],
  jwks: { keys: [key] },
  enabledJWA: { idTokenSigningAlgValues: [algorithm] },
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
  scopes: ["openid", "email", "profile", "offline_access"],
  conformIdTokenClaims: false,
  cookies: { keys: ["a key of the test provider"] },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, ...addressOf(id), name: id }),
  }),
  // As it comes: this fetch is the provider's own, which refuses to call this machine.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  extraTokenClaims: (ctx, token) => ({
    ...(!token.accountId?.startsWith("plain") && { sid: ctx.oidc.entities.AuthorizationCode?.sid }),
    ...(token.accountId && { email: `${token.accountId}@example.com`, email_verified: true }),
    ...(token.accountId === "olga" && { roles: ["operator"] }),
  }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
    backchannelLogout: { enabled: Boolean(logoutUri) },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: "chat:read chat:write",
        audience: resource,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: algorithm } },
      }),
    },
  },
});

// Signs in and agrees to everything by itself.
async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(
    request,
    response,
  );
  if (prompt.name === "login") {
    const [accountId, address] = params.login_hint.split("=");
    if (address) addresses.set(accountId, address);
    const denied = { error: "access_denied", error_description: "Mallory said no" };
    const result = accountId === "mallory" ? denied : { login: { accountId } };
    return provider.interactionFinished(request, response, result);
  }
  const asked = { accountId: session.accountId, clientId: params.client_id };
  const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant(asked);
  grant.addOIDCScope("openid email profile offline_access");
  grant.addResourceScope(resource, "chat:read chat:write");
  const result = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

const serve = provider.callback();
const server = http.createServer((request, response) =>
  request.url.startsWith("/interaction/") ? interact(request, response) : serve(request, response),
);
server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
