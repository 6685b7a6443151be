import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { findRestless } from '../helpers/at-rest.ts';
import { askOne } from './ask-one.ts';
import { blobsOf, sha256, TAGS } from './content.ts';
import type { Wanted } from './history.ts';
import { Refused, Wrong } from './judge.ts';
import { Operations } from './operations.ts';
import { type PulledTop, pullImage } from './pull-image.ts';
import type { Replica } from './replica.ts';
import { indexedImages, policyOf } from './rules.ts';
import type { World } from './world.ts';

/** Longer than anything is remembered that was a passing fault, and than any work on images of this size takes. */
const HEALED_MS = 40_000;
/** What is held at rest is held for good; only the scrubber looks at a blob now and then. */
const LET_GO_MS = 12_000;
const LOOK_AGAIN_MS = 40;

/** Files of blobs that have changed by themselves are found by the scrub, and removed. @throws Wrong */
export async function checkHealedStore(world: World): Promise<void> {
  if (!world.disturbances.has('rot')) return;
  for (const replica of world.replicas)
    await untilRight(`the blobs of ${replica.name}`, async () => {
      const wrong = [...storedBlobs(replica).keys()].filter((digest) => sha256Of(replica, digest) !== digest);
      if (wrong.length > 0) throw new Refused(`other bytes are stored as ${wrong.join()}`, false);
    });
}

/** Nothing goes wrong any more: all has to be right again in time, and nothing may be left of what was. @throws Wrong */
export async function checkRest(world: World, options: { readonly empties: boolean }): Promise<void> {
  for (const replica of world.replicas) replica.assertAlive();
  await Promise.all(world.replicas.map((_, place) => checkContent(world, place)));
  await checkAnswers(world);
  for (const replica of world.replicas) {
    replica.dropConnections();
    await checkQuiet(replica);
    if (options.empties) await checkEmptied(replica);
    replica.assertAlive();
    checkLog(replica);
  }
}

/** Do it until it goes well. @throws Wrong if it does not in time, or at once if it is wrong */
async function untilRight<T>(what: string, work: () => Promise<T>, limitMs = HEALED_MS): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (performance.now() > deadline)
        throw new Wrong(`not healed, ${what}: ${error.message}`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }
}

/** Everything can be had from this replica. */
async function checkContent(world: World, replica: number): Promise<void> {
  for (const [repository, { tops }] of world.content.repositories.entries()) {
    const layers = tops.flatMap(({ images }) => images.flatMap(({ layers }) => layers)).length;
    const places = Array.from({ length: layers }, (_, place) => place);
    const wanted: Wanted[] = [
      ...TAGS.map((_, tag) => ({ of: 'tag', repository, tag }) as const),
      { of: 'tags', repository },
      ...Array.from(
        blobsOf(world.repository(repository)),
        (_, place) => ({ of: 'blob', repository, place }) as const,
      ),
      ...places.map((place) => ({ of: 'tar', repository, place }) as const),
      ...places.map((place) => ({ of: 'file', repository, place, share: 0.99 }) as const),
      ...tops.map((_, place) => ({ of: 'referrers', repository, place }) as const),
      ...tops.map((_, place) => ({ of: 'imageFile', repository, place, share: 0.99 }) as const),
    ];
    for (const one of wanted)
      await untilRight(`${JSON.stringify(one)} of replica ${replica}`, () =>
        askOne(world, { do: 'get', replica, client: 'docker', wanted: one }),
      );
  }
}

/** A tag has one answer, that which the rules call for, whichever replica is asked. */
async function checkAnswers(world: World): Promise<void> {
  for (const repository of world.content.repositories) {
    const policy = policyOf(world.rules, repository.name);
    for (const tag of TAGS) {
      const answers: PulledTop[] = [];
      for (const replica of world.replicas)
        answers.push(
          await untilRight(`${repository.name}:${tag} of ${replica.name}`, async () => {
            const client = 'containerd';
            const pulled = await pullImage(world, {
              client,
              repository,
              tag,
              replicas: [replica],
              documentsOnly: true,
            });
            // What its publisher has indexed is answered as it is.
            const isOwn = policy.v2 && !world.hasPushedIndex(repository, pulled.top);
            const wanted = isOwn ? indexedImages(pulled.top, policy) : [];
            const isAsWanted = pulled.images.every(({ image, indexed }) => {
              const own = wanted.find((candidate) => candidate.image === image);
              return String(own?.layers.map(({ digest }) => digest)) === String(indexed);
            });
            if (isAsWanted) return pulled;
            const given = pulled.images.map(({ indexed }) => indexed?.length ?? 'no index');
            const called = wanted.map(({ layers }) => layers.length);
            throw new Refused(
              `its indexes have ${given.join()} layers, the rules call for ${called.join()}`,
              false,
            );
          }),
        );
      const digests = new Set(answers.map(({ digest }) => digest));
      if (digests.size > 1)
        throw new Wrong(`${repository.name}:${tag} has several answers: ${[...digests].join(', ')}`);
      const [answer] = answers;
      if (answer !== undefined) world.noteAnswer(repository, answer.top, answer.digest);
    }
  }
}

/** No work, no queue, no job, no unfinished file. */
async function checkQuiet(replica: Replica): Promise<void> {
  const operations = new Operations(replica);
  await untilRight(`${replica.name} at rest`, async () => {
    const metrics = await operations.metrics();
    const restless = [...metrics].filter(
      ([name, value]) => value !== 0 && /^spandrel_(fills_in_progress|worker_queue_length)/.test(name),
    );
    const jobs = (await operations.jobs()).filter(({ state }) => state === 'running');
    const { root, pid } = replica;
    const held = await findRestless({ metrics: () => operations.printedMetrics(), root, pid });
    if (restless.length + jobs.length + held.length > 0)
      throw new Refused(`still there: ${JSON.stringify({ restless, jobs, held })}`, false);
    const negative = [...metrics].filter(([, value]) => value < 0);
    if (negative.length > 0)
      throw new Wrong(`negative metrics of ${replica.name}: ${JSON.stringify(negative)}`);
    const status = await operations.readyz();
    if (status !== 200) throw new Refused(`/readyz is ${status}`, false);
    await checkList(replica, operations, metrics);
  });
}

/** What the store lists is what is on its disk. */
async function checkList(
  replica: Replica,
  operations: Operations,
  metrics: ReadonlyMap<string, number>,
): Promise<void> {
  const listed = await operations.blobs();
  const files = storedBlobs(replica);
  const complete = listed.filter(({ state }) => state === 'complete');
  const wrong = complete.filter(({ digest, sizeBytes }) => files.get(digest) !== sizeBytes);
  const unlisted = [...files.keys()].filter((digest) => !complete.some((blob) => blob.digest === digest));
  if (wrong.length + unlisted.length > 0)
    throw new Refused(`list and disk differ: ${JSON.stringify({ wrong, unlisted })}`, false);
  const bytes = complete.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const counted = metrics.get('spandrel_store_bytes{state="complete"}') ?? 0;
  if (bytes !== counted) throw new Refused(`the store counts ${counted} bytes, and lists ${bytes}`, false);
}

/** Whatever nobody uses can be deleted, and is gone then: name, bytes and handles. */
async function checkEmptied(replica: Replica): Promise<void> {
  const operations = new Operations(replica);
  await untilRight(
    `${replica.name} emptied`,
    async () => {
      for (const { digest } of await operations.blobs()) {
        const status = await operations.delete(digest);
        if (status !== 204 && status !== 404) throw new Refused(`DELETE of ${digest} is ${status}`, false);
      }
      const left = [
        ...storedBlobs(replica).keys(),
        ...filesIn(replica, 'partial').filter((name) => !name.endsWith('.tmp')),
      ];
      const open = openFiles(replica);
      if (left.length + open.length > 0)
        throw new Refused(`left after all blobs were deleted: ${JSON.stringify({ left, open })}`, false);
      const metrics = await operations.metrics();
      const held = [...metrics].filter(
        ([name, value]) => /^spandrel_store_bytes\{state="(complete|partial)"/.test(name) && value !== 0,
      );
      if (held.length > 0) throw new Refused(`an empty store has ${JSON.stringify(held)}`, false);
    },
    LET_GO_MS,
  );
}

/** A defect is one whoever asked for it; what became of a request whose client has left (499) is none. */
function checkLog(replica: Replica): void {
  const found = replica.output
    .split('\n')
    .find(
      (line) =>
        /"msg":"defect|"level":"fatal"|"code":"INTERNAL"|UnhandledPromise|Warning:/.test(line) &&
        !line.includes('"status":499'),
    );
  if (found !== undefined) throw new Wrong(`${replica.name} says ${found.slice(0, 2000)}`);
}

function storedBlobs(replica: Replica): Map<string, number> {
  return new Map(
    filesIn(replica, 'blobs').map((path) => {
      const [algorithm = '', , hex = ''] = path.split('/');
      return [`${algorithm}:${hex}`, sizeOf(join(replica.root, 'blobs', path))];
    }),
  );
}

/** Blobs that the process has open, be their names gone or not. */
function openFiles(replica: Replica): string[] {
  const folder = `/proc/${replica.pid}/fd`;
  const targets = readdirSync(folder).flatMap((name) => {
    try {
      return [readlinkSync(join(folder, name))];
    } catch {
      // Closed meanwhile.
      return [];
    }
  });
  const blobs = [join(replica.root, 'blobs'), join(replica.root, 'partial')];
  return targets.filter(
    (target) =>
      blobs.some((blob) => target.startsWith(`${blob}/`)) ||
      (target.startsWith(replica.root) && target.endsWith('(deleted)') && !target.includes('/indexes/')),
  );
}

function filesIn(replica: Replica, folder: string): string[] {
  const entries = readdirSync(join(replica.root, folder), { recursive: true, withFileTypes: true });
  const top = join(replica.root, folder);
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(top.length + 1));
}

/** The digest of a stored blob's bytes; that of its name for one that has gone meanwhile. */
function sha256Of(replica: Replica, digest: string): string {
  const [algorithm = '', hex = ''] = digest.split(':');
  try {
    return sha256(readFileSync(join(replica.root, 'blobs', algorithm, hex.slice(0, 2), hex)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return digest;
  }
}

/** -1 for what has gone meanwhile. */
function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? -1;
}
