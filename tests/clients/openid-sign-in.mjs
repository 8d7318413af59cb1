// Signs somebody in at an OpenID provider with the real openid-client, as a web front end does.
//
//   node openid-sign-in.mjs ISSUER WHO [WHO ...]
//
// Prints one JSON line a person: `id_token`, `access_token`, `refresh_token`, and the `cookie` of
// their session there; then one with the `access_token` that the client gets for itself.
import * as client from "openid-client";

const [issuer, ...people] = process.argv.slice(2);
const redirect_uri = "http://127.0.0.1:9/callback";
const resource = "https://chat.example/api";
const secret = "a secret of the test client: 0123456789";
const allow = { execute: [client.allowInsecureRequests] };
const authentication = client.ClientSecretBasic(secret);
const config = await client.discovery(new URL(issuer), "chat-web", secret, authentication, allow);

// Follows redirects as a browser would, up to the one that leads back to the front end.
async function browse(address, jar) {
  for (let hops = 0; hops < 10; hops++) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(address, { redirect: "manual", headers: { cookie } });
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      jar.set(name, value);
    }
    const location = answer.headers.get("location");
    if (!location) throw new Error(`${answer.status} ${await answer.text()}`);
    address = new URL(location, address);
    if (address.href.startsWith(redirect_uri)) return address;
  }
  throw new Error("too many redirects");
}

for (const who of people) {
  const jar = new Map();
  const verifier = client.randomPKCECodeVerifier();
  const nonce = client.randomNonce();
  const state = client.randomState();
  const address = client.buildAuthorizationUrl(config, {
    redirect_uri,
    resource,
    nonce,
    state,
    scope: "openid email profile offline_access chat:read chat:write",
    prompt: "consent",
    login_hint: who,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  });
  const found = await client.authorizationCodeGrant(
    config,
    await browse(address, jar),
    { pkceCodeVerifier: verifier, expectedNonce: nonce, expectedState: state },
    { resource },
  );
  const { id_token, access_token, refresh_token } = found;
  const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
  console.log(JSON.stringify({ id_token, access_token, refresh_token, cookie }));
}
const own = await client.clientCredentialsGrant(config, { resource, scope: "chat:read" });
console.log(JSON.stringify({ access_token: own.access_token }));
