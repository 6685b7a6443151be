import { type NoteRedis, SharedNotes } from '../../cache/shared-notes.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import type { GatedImage } from './config-gate.ts';

const PREFIX = 'pull:1:';
/** A pull that began earlier is over. */
const LONGEST_PULL_MS = 10 * 60_000;
/** What a node got so much earlier than the begin of a pull belongs to an earlier pull. */
export const PULL_SLACK_MS = 1_000;

/** What has become of a blob that a node needs. */
export interface SharedStep {
  readonly what: 'requested' | 'received';
  readonly ageMs: number;
}

/**
 * What nodes in the middle of a pull have got from other replicas: the connections of one node may lead to
 * several. A wrong or lost entry lets a config go too early or too late, and nothing else.
 */
export class SharedPulls {
  readonly #notes: SharedNotes;

  constructor(redis: NoteRedis | undefined) {
    this.#notes = new SharedNotes(redis, { prefix: PREFIX, lifetimeMs: LONGEST_PULL_MS });
  }

  get isShared(): boolean {
    return this.#notes.isShared;
  }

  noteImage(client: string, config: Digest, image: GatedImage): void {
    void this.#notes.note(`${client} image ${config}`, { ...image });
  }

  async image(client: string, config: Digest): Promise<GatedImage | undefined> {
    const note = await this.#notes.find(`${client} image ${config}`);
    if (note === undefined) return undefined;
    const { sociIndex, ztocs, settleMs } = note.fields;
    const areDigests = [sociIndex, ztocs].flat().every((digest) => isDigest(String(digest)));
    if (!areDigests || !Array.isArray(ztocs) || typeof settleMs !== 'number') return undefined;
    return { sociIndex: sociIndex as Digest, ztocs: ztocs as Digest[], settleMs };
  }

  note(client: string, digest: Digest, what: SharedStep['what']): void {
    void this.#notes.note(`${client} ${digest}`, { what });
  }

  /** The node has received the SOCI index of an image, and nothing else that it needs. */
  noteBegin(client: string, sociIndex: Digest): void {
    void this.#notes.note(`${client} begin ${sociIndex}`, {});
  }

  /** How long ago the node's pull began; `undefined` if that is not known. */
  async begunMs(client: string, sociIndex: Digest): Promise<number | undefined> {
    return (await this.#notes.find(`${client} begin ${sociIndex}`))?.ageMs;
  }

  /** The last step of each that is known, in a pull that began so long ago. */
  async steps(
    client: string,
    digests: readonly Digest[],
    begunMs = LONGEST_PULL_MS,
  ): Promise<ReadonlyMap<Digest, SharedStep>> {
    const steps = new Map<Digest, SharedStep>();
    await Promise.all(
      digests.map(async (digest) => {
        const note = await this.#notes.find(`${client} ${digest}`);
        const what = note?.fields['what'];
        if (note === undefined || note.ageMs > begunMs + PULL_SLACK_MS) return;
        if (what === 'requested' || what === 'received') steps.set(digest, { what, ageMs: note.ageMs });
      }),
    );
    return steps;
  }
}
