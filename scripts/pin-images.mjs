// Pins the images in docker/ to the digests that their tags have now: `npm run pin`. Review and commit the
// changes. With --check it changes nothing, and fails if an image is not pinned.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const ROOT = resolve(import.meta.dirname, '..');
const FILES = [
  'docker/Dockerfile',
  'docker/compose.yaml',
  'docker/compose.replicas.yaml',
  'docker/kubernetes-replicas/redis.yaml',
];
/** `docker.io/library/node:26-bookworm-slim`, pinned or not. */
const IMAGE = /\bdocker\.io\/([a-z0-9/._-]+):([A-Za-z0-9._-]+)(@sha256:[0-9a-f]{64})?/g;
const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

const { values } = parseArgs({
  options: {
    registry: { type: 'string', default: 'https://registry-1.docker.io' },
    root: { type: 'string', default: ROOT },
    check: { type: 'boolean', default: false },
  },
});

/** Digest of the manifest's bytes; headers are not trusted. */
async function digestOfTag(repository, tag) {
  const url = `${values.registry}/v2/${repository}/manifests/${tag}`;
  let response = await fetch(url, { headers: { accept: ACCEPT } });
  if (response.status === 401) {
    const challenge = response.headers.get('www-authenticate') ?? '';
    const parameter = (name) => new RegExp(`${name}="([^"]*)"`).exec(challenge)?.[1] ?? '';
    const asked = new URL(parameter('realm'));
    asked.searchParams.set('service', parameter('service'));
    asked.searchParams.set('scope', `repository:${repository}:pull`);
    const { token } = await (await fetch(asked)).json();
    response = await fetch(url, { headers: { accept: ACCEPT, authorization: `Bearer ${token}` } });
  }
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
  const bytes = Buffer.from(await response.arrayBuffer());
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

let unpinned = 0;
for (const file of FILES) {
  const path = join(values.root, file);
  let text = readFileSync(path, 'utf8');
  for (const [named, repository, tag, pin] of new Set(text.matchAll(IMAGE))) {
    if (values.check) {
      if (pin === undefined) console.error(`${file}: ${named} is not pinned`);
      unpinned += pin === undefined ? 1 : 0;
      continue;
    }
    const pinned = `docker.io/${repository}:${tag}@${await digestOfTag(repository, tag)}`;
    if (pinned !== named) console.log(`${file}: ${pinned}`);
    text = text.replaceAll(new RegExp(`${RegExp.escape(named)}(?!@)`, 'g'), pinned);
  }
  if (!values.check) writeFileSync(path, text);
}
process.exitCode = unpinned > 0 ? 1 : 0;
