// Launches by way of @jupyterhub/binderhub-client, and prints every event as a line of JSON.
// Arguments: the build endpoint, the spec, a build token.  To be run in a directory in which the client is installed.
globalThis.window = globalThis;
globalThis.document = { hidden: false, cookie: "", addEventListener() {}, removeEventListener() {} };
const { createRequire } = await import("node:module");
const { pathToFileURL } = await import("node:url");
const { join } = await import("node:path");
const path = createRequire(join(process.cwd(), "x.js")).resolve("@jupyterhub/binderhub-client/client.js");
const { BinderRepository } = await import(pathToFileURL(path));
const [endpoint, spec, buildToken] = process.argv.slice(2);
const repository = new BinderRepository(spec, new URL(endpoint), { buildToken });
for await (const event of repository.fetch()) {
  console.log(JSON.stringify(event));
  if (event.phase === "ready" || event.phase === "failed") break;
}
repository.close();
process.exit(0);
