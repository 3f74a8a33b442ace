// An OpenID provider on loopback for the tests of sign-in: panva's certified oidc-provider.
//
//   node provider.mjs '{"port": 0, "redirect": "...", "logout": "...", "keys": [JWK, ...]}'
//
// It prints its issuer once it listens. Whoever signs in as NAME has the claims of PEOPLE[NAME]; any password
// is taken. Clients: "ward" with a secret, "public" without one.
import Provider from "oidc-provider";
import { createServer } from "node:http";

const { port, redirect, logout, keys, lifetime = 600 } = JSON.parse(process.argv[2]);
const PEOPLE = {
  anna: { preferred_username: "anna", name: "Anna Ito", realm_access: { roles: ["ward-doctor", "offline"] } },
  eva: { preferred_username: "eva", name: "Eva Lund", realm_access: { roles: ["ward-doctor", "ward-quality"] } },
  guest: { preferred_username: "guest", name: "A Guest", realm_access: { roles: ["visitor"] } },
  odd: { preferred_username: "<b>odd</b> \u0000name", realm_access: { roles: "ward-doctor" } },
};
const client = { redirect_uris: [redirect], post_logout_redirect_uris: [logout], grant_types: ["authorization_code"] };
const server = createServer();

server.listen(port, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      { ...client, client_id: "ward", client_secret: "a secret: with %odd/ signs" },
      { ...client, client_id: "public", token_endpoint_auth_method: "none" },
    ],
    jwks: { keys },
    claims: { openid: ["sub"], profile: ["preferred_username", "name", "realm_access"] },
    // Roles stand in the ID token, as hospitals' providers put them there.
    conformIdTokenClaims: false,
    clientBasedCORS: () => false,
    ttl: { IdToken: lifetime, AccessToken: 600, AuthorizationCode: 60, Grant: 600, Interaction: 600, Session: 600 },
    pkce: { required: () => true },
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256", "PS256", "EdDSA", "HS256"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: `subject-${id}`, ...PEOPLE[id] }) }),
    cookies: { keys: ["only for tests"] },
  });
  provider.on("server_error", (_, error) => console.error(error));
  server.on("request", provider.callback());
  console.log(issuer);
});
