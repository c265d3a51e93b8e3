import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { create, getOption, hasOption, toBinary } from "@bufbuild/protobuf";
import * as contrib from "@certes/contrib";
import { event } from "@certes/sdk/gen/certes/v1/options_pb.js";

const root = dirname(fileURLToPath(import.meta.resolve("@certes/contrib/package.json")));
const community = join(root, "gen/certes/community");
const providers = readdirSync(community);

/** Everything that the stubs of a provider export, but for the descriptors of the files themselves. */
async function stubs(provider) {
  const all = [];
  const files = readdirSync(join(community, provider), { recursive: true });
  for (const file of files.filter((name) => name.endsWith("_pb.js"))) {
    const module = await import(pathToFileURL(join(community, provider, file)).href);
    all.push(...Object.entries(module).filter(([name]) => !name.startsWith("file_")));
  }
  return all;
}

test("the index has a module for each provider", () => {
  assert.deepEqual(Object.keys(contrib).sort(), [...providers].sort());
});

for (const provider of providers) {
  test(`${provider} exports whatever its stubs have, and nothing hides another`, async () => {
    const expected = await stubs(provider);
    const module = await import(`@certes/contrib/${provider}`);
    assert.equal(Object.keys(module).length, expected.length);
    for (const [name, value] of expected) {
      assert.equal(module[name], value, name);
    }
    assert.equal(module, contrib[provider]);
  });

  test(`${provider} alone does not load the others`, () => {
    const imports = readFileSync(join(root, "lib", `${provider}.js`), "utf8").matchAll(/from "(.*)"/g);
    for (const [, from] of imports) {
      assert.ok(from.startsWith(`../gen/certes/community/${provider}/v1/`), from);
    }
  });

  test(`the options of ${provider} are those that its event types declare`, () => {
    const messages = Object.values(contrib[provider]).filter((schema) => schema.kind === "message");
    const events = messages.filter((schema) => hasOption(schema, event));
    assert.ok(events.length > 0);
    const declared = events.flatMap((schema) => getOption(schema, event).options.map((option) => option.name));
    const types = readFileSync(join(root, "lib", `${provider}.d.ts`), "utf8");
    const [, body] = /export type Opts = \{(.*)\n\};/s.exec(types);
    const named = [...body.matchAll(/^  readonly (\w+)\?: string \| undefined;$/gm)].map(([, name]) => name);
    assert.deepEqual(named, [...new Set(declared)].sort());
  });

  test(`every message of ${provider} can be made and written`, () => {
    for (const schema of Object.values(contrib[provider]).filter((each) => each.kind === "message")) {
      assert.equal(toBinary(schema, create(schema)).length, 0, schema.typeName);
    }
  });
}
