import { findRestless } from '../helpers/faults/at-rest.ts';
import { askOne } from './ask-one.ts';
import { blobsOf, TAGS } from './content.ts';
import type { Wanted } from './history.ts';
import { Refused, Wrong } from './judge.ts';
import { Operations } from './operations.ts';
import { type PulledTop, pullImage } from './pull-image.ts';
import type { Replica } from './replica.ts';
import { indexedDigest, indexedImages, policyOf } from './rules.ts';
import type { World } from './world.ts';

interface Patience {
  /** Longer than any work on images of this size. */
  readonly limitMs: number;
  /** Longer than the same fault may last. */
  readonly stuckMs: number;
}

/** A proxy with these settings remembers a fault for at most 16 seconds. */
const TO_HEAL: Patience = { limitMs: 40_000, stuckMs: 20_000 };
/**
 * Anything held at rest is a leak. Only the scrubber opens a blob briefly, and a failed disk is left alone
 * for ten seconds.
 */
const TO_LET_GO: Patience = { limitMs: 40_000, stuckMs: 12_000 };
const LOOK_AGAIN_MS = 40;
/** Times that a fault must be seen: a busy machine takes fewer samples in the same time. */
const STUCK_LOOKS = 100;
/** Passes after which the scrub has verified every blob: the first may have started before. */
const SCRUB_PASSES = 3;

/**
 * The scrub finds and removes changed blobs; nothing else may change a blob.
 * @throws Wrong
 */
export async function checkHealedStore(world: World): Promise<void> {
  for (const replica of world.replicas) {
    const before = await scrubPasses(replica);
    await untilRight(`the blobs of ${replica.name}`, async () => {
      const passes = (await scrubPasses(replica)) - before;
      const wrong = [...replica.files.blobs().keys()].filter((digest) => {
        const actual = replica.files.actualDigest(digest);
        return actual !== undefined && actual !== digest;
      });
      if (wrong.length === 0) return;
      const message = `other bytes are stored as ${wrong.join()}`;
      if (!world.disturbances.has('rot')) throw new Wrong(message);
      if (passes >= SCRUB_PASSES) throw new Wrong(`${message} after ${passes} passes of the scrub`);
      throw new Refused(message, false);
    });
  }
}

async function scrubPasses(replica: Replica): Promise<number> {
  return (await new Operations(replica).metrics()).get('spandrel_scrub_passes_total') ?? 0;
}

/**
 * Call after all faults have ended: everything must recover in time, and nothing may be left of them.
 * @throws Wrong
 */
export async function checkRest(world: World, options: { readonly empties: boolean }): Promise<void> {
  for (const replica of world.replicas) replica.assertAlive();
  const replicas = world.replicas.map((_, place) => place);
  await Promise.all(replicas.map((place) => checkContent(world, place, wholeBlobs(world))));
  // A blob that a client received completely is verified, or fetched again.
  world.disturbances.keepUnverified(new Set());
  await Promise.all(replicas.map((place) => checkContent(world, place, derivedContent(world))));
  await checkAnswers(world);
  for (const replica of world.replicas) {
    replica.dropConnections();
    await checkQuiet(replica);
    if (options.empties) await checkEmptied(replica);
    replica.assertAlive();
    checkLog(replica);
  }
}

/**
 * Repeats until it succeeds.
 * @throws Wrong if it does not in time, or at once for a wrong response
 */
async function untilRight<T>(what: string, work: () => Promise<T>, patience = TO_HEAL): Promise<T> {
  const deadline = performance.now() + patience.limitMs;
  let fault = { message: '', since: 0, looks: 0 };
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      const { message } = error;
      const now = performance.now();
      if (message !== fault.message) fault = { message, since: now, looks: 0 };
      fault.looks++;
      const isStuck = now > fault.since + patience.stuckMs && fault.looks > STUCK_LOOKS;
      if (isStuck || now > deadline) throw new Wrong(`not healed, ${what}: ${message}`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }
}

function wholeBlobs(world: World): readonly Wanted[] {
  return world.content.repositories.flatMap((known, repository) =>
    Array.from(blobsOf(known), (_, place) => ({ of: 'blob', repository, place }) as const),
  );
}

/** Everything that is served from blobs and manifests. */
function derivedContent(world: World): readonly Wanted[] {
  return world.content.repositories.flatMap(({ tops }, repository) => {
    const layers = tops.flatMap(({ images }) => images.flatMap(({ layers }) => layers)).length;
    const places = Array.from({ length: layers }, (_, place) => place);
    return [
      ...TAGS.map((_, tag) => ({ of: 'tag', repository, tag }) as const),
      { of: 'tags', repository } as const,
      ...places.map((place) => ({ of: 'tar', repository, place }) as const),
      ...places.map((place) => ({ of: 'file', repository, place, share: 0.99 }) as const),
      ...tops.map((_, place) => ({ of: 'referrers', repository, place }) as const),
      ...tops.map((_, place) => ({ of: 'imageFile', repository, place, share: 0.99 }) as const),
    ];
  });
}

/** Asserts that this replica serves all of it correctly. */
async function checkContent(world: World, replica: number, wanted: readonly Wanted[]): Promise<void> {
  for (const one of wanted)
    await untilRight(`${JSON.stringify(one)} of replica ${replica}`, () =>
      askOne(world, { do: 'get', replica, client: 'docker', wanted: one }),
    );
}

/** A tag has the same response from all replicas, according to the rules. */
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
            // An image with a pushed index is served unchanged.
            const isOwn = policy.v2 && !world.hasPushedIndex(repository, pulled.top);
            const wanted = isOwn ? indexedImages(pulled.top, policy) : [];
            const isAsWanted = pulled.images.every(({ image, indexed }) => {
              const own = wanted.find((candidate) => candidate.image === image);
              return String(own?.layers.map((layer) => indexedDigest(layer, policy))) === String(indexed);
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

/** Asserts that there is no work, queue, job or unfinished file. */
async function checkQuiet(replica: Replica): Promise<void> {
  const operations = new Operations(replica);
  await untilRight(
    `${replica.name} at rest`,
    async () => {
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
    },
    TO_LET_GO,
  );
}

/** Asserts that the store lists exactly the blobs on its disk. */
async function checkList(
  replica: Replica,
  operations: Operations,
  metrics: ReadonlyMap<string, number>,
): Promise<void> {
  const listed = await operations.blobs();
  const files = replica.files.blobs();
  const complete = listed.filter(({ state }) => state === 'complete');
  const wrong = complete.filter(({ digest, sizeBytes }) => files.get(digest) !== sizeBytes);
  const unlisted = [...files.keys()].filter((digest) => !complete.some((blob) => blob.digest === digest));
  if (wrong.length + unlisted.length > 0)
    throw new Refused(`list and disk differ: ${JSON.stringify({ wrong, unlisted })}`, false);
  const bytes = complete.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const counted = metrics.get('spandrel_store_bytes{state="complete"}') ?? 0;
  if (bytes !== counted) throw new Refused(`the store counts ${counted} bytes, and lists ${bytes}`, false);
}

/** Asserts that unused blobs can be deleted completely: name, bytes and handles. */
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
        ...replica.files.blobs().keys(),
        ...replica.files.in('partial').filter((name) => !name.endsWith('.tmp')),
      ];
      const open = replica.files.openBy(replica.pid);
      if (left.length + open.length > 0)
        throw new Refused(`left after all blobs were deleted: ${JSON.stringify({ left, open })}`, false);
      const metrics = await operations.metrics();
      const held = [...metrics].filter(
        ([name, value]) => /^spandrel_store_bytes\{state="(complete|partial)"/.test(name) && value !== 0,
      );
      const listed = await operations.blobs();
      if (held.length + listed.length > 0)
        throw new Refused(`an empty store has ${JSON.stringify({ held, listed })}`, false);
    },
    TO_LET_GO,
  );
}

const DEFECT = /"msg":"defect|"level":"fatal"|"code":"INTERNAL"|UnhandledPromise|Warning:/;

/** A defect counts in any request, except those whose client left (499). */
function checkLog(replica: Replica): void {
  for (const line of replica.output.split('\n')) {
    const [defect] = DEFECT.exec(line) ?? [];
    if (defect !== undefined && !line.includes('"status":499'))
      throw new Wrong(`${replica.name} says ${defect} in ${line.slice(0, 2000)}`);
  }
}
