// A registry in a separate process that serves sample images: `node sample-upstream-main.ts
// '{"registry":{…},"images":[…]}'` prints one line, `{"url","controlUrl"}`, when it is ready, and runs until
// it is killed.
import { readFile } from 'node:fs/promises';
import { writeSync } from 'node:fs';

import type { Digest } from '../../src/core/digest.ts';
import { startControlServer } from '../../test/registry/control-server.ts';
import { ScriptedRegistry, type ScriptedRegistryOptions } from '../../test/registry/scripted-registry.ts';
import type { SampleImage } from '../samples/sample-image.ts';

const STANDARD_OUTPUT = 1;

const { registry: options, images } = JSON.parse(process.argv[2] ?? '') as {
  registry: ScriptedRegistryOptions;
  images: readonly SampleImage[];
};
const registry = await ScriptedRegistry.start(options);
for (const { repository, manifest, config, layers } of images) {
  for (const { digest, path } of [config, ...layers])
    await registry.addBlob(repository, new Uint8Array(await readFile(path)), digest as Digest);
  const document = await readFile(manifest.path);
  registry.addManifest(repository, manifest.digest, document, manifest.mediaType);
  registry.addManifest(repository, 'latest', document, manifest.mediaType);
}
const { url: controlUrl } = await startControlServer(registry);
writeSync(STANDARD_OUTPUT, `${JSON.stringify({ url: registry.url, controlUrl })}\n`);
