import { createHash } from 'node:crypto';

/** One pull of an image by one client. */
export interface PullResult {
  readonly bytes: number;
  /** Milliseconds from the first request to the first byte of the first layer. */
  readonly firstByteMs: number;
  readonly totalMs: number;
}

interface Blob {
  readonly digest: string;
  readonly size: number;
}

/** Layers that containerd fetches concurrently. */
const PARALLEL_LAYERS = 3;
const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

/**
 * Pulls `repository:tag` for linux/amd64 as containerd does: manifests, then config and layers, three at a
 * time. Verifies the digest of every body.
 * @param base registry URL without a trailing slash
 */
export async function pullImage(base: string, repository: string, tag: string): Promise<PullResult> {
  const started = performance.now();
  let bytes = 0;
  const index = await fetchJson(`${base}/v2/${repository}/manifests/${tag}`);
  const chosen = (index.manifests as { digest: string; platform?: { architecture: string } }[]).find(
    ({ platform }) => platform?.architecture === 'amd64',
  );
  const manifest = await fetchJson(`${base}/v2/${repository}/manifests/${chosen?.digest ?? ''}`);
  const queue: Blob[] = [manifest.config as Blob, ...(manifest.layers as Blob[])];
  let firstByteMs = Number.NaN;
  const worker = async (): Promise<void> => {
    for (let blob = queue.shift(); blob !== undefined; blob = queue.shift()) {
      const received = await fetchBlob(`${base}/v2/${repository}/blobs/${blob.digest}`, blob, () => {
        if (blob !== manifest.config && Number.isNaN(firstByteMs)) firstByteMs = performance.now() - started;
      });
      bytes += received;
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_LAYERS }, worker));
  return { bytes, firstByteMs, totalMs: performance.now() - started };
}

async function fetchJson(url: string): Promise<Record<string, unknown>> {
  const response = await fetch(url, { headers: { accept: ACCEPT } });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Record<string, unknown>;
}

async function fetchBlob(url: string, blob: Blob, onFirstByte: () => void): Promise<number> {
  const response = await fetch(url);
  if (!response.ok || response.body === null)
    throw new Error(`${url}: ${response.status} ${await response.text()}`);
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of response.body) {
    if (bytes === 0) onFirstByte();
    hash.update(chunk);
    bytes += chunk.byteLength;
  }
  const digest = `sha256:${hash.digest('hex')}`;
  if (digest !== blob.digest || bytes !== blob.size)
    throw new Error(`${url}: got ${bytes} bytes with digest ${digest}`);
  return bytes;
}
