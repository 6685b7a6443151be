import { gunzipSync } from 'node:zlib';

import { SnapshotterClient } from '../helpers/clients/snapshotter-client.ts';
import { blobsOf, type KnownRepository, sha256 } from './content.ts';
import { Refused, Wrong } from './judge.ts';
import type { Replica } from './replica.ts';
import type { World } from './world.ts';

/** Errors for which containerd falls back to a pull; not a finding. */
const NOT_LAZY = /no SOCI v\d index|a layer that can be mounted|no manifest for/;

export interface MountOptions {
  readonly repository: KnownRepository;
  readonly tag: string;
  readonly replica: Replica;
  readonly discovery: 'v1' | 'v2';
}

/**
 * Pulls and mounts as containerd with the soci-snapshotter, and reads a file of every mounted layer.
 * @throws Wrong, Refused
 */
export async function mountImage(
  world: World,
  { repository, tag, replica, discovery }: MountOptions,
): Promise<void> {
  const client = new SnapshotterClient({
    repositoryUrl: `${replica.url}/v2/up/${repository.name}`,
    discovery,
    send: async (url, { method, headers }) => {
      const question = { method: method === 'HEAD' ? 'HEAD' : 'GET', url, headers } as const;
      const answer = await world.judge.ask(replica.patrons, question, {});
      const given = Object.entries(answer.headers).map(([name, value]) => [name, String(value)] as const);
      const isPacked = answer.headers['content-encoding'] === 'gzip';
      const body = isPacked ? gunzipSync(answer.body) : answer.body;
      return { status: answer.status, headers: new Headers(Object.fromEntries(given)), body };
    },
  });
  try {
    await client.start(tag);
    for (const mounted of client.mountedLayers) {
      const layer = world.content.layers.find(({ digest, diffId }) => [digest, diffId].includes(mounted));
      const [name, bytes] = [...(layer?.files ?? [])].at(-1) ?? ['', Buffer.alloc(0)];
      const read = await client.readFile(name);
      if (!read.equals(bytes)) throw new Wrong(`${name} of ${mounted}: bytes of ${sha256(read)}`);
    }
  } catch (error) {
    if (error instanceof Refused || error instanceof Wrong) throw error;
    const message = error instanceof Error ? error.message : String(error);
    if (NOT_LAZY.test(message)) throw new Refused(message, true);
    // The snapshotter itself finds bytes that are not verified yet or that a disk has changed, and, until the
    // proxy has fetched the whole layer, a zTOC that its publisher has made for another one.
    const isPublishersWord = world.setUp.pushed === 'wrong' && world.pushed?.repository === repository;
    const { disturbances } = world;
    const isUnverified = disturbances.excusesUnverified([...blobsOf(repository).keys()]);
    if (isUnverified || disturbances.has('rot') || isPublishersWord) throw new Refused(message, true);
    throw new Wrong(`${repository.name}:${tag} on ${replica.name}: ${message}`);
  }
}
