import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { type Actor, EventQueue, Gate } from './event-queue.ts';
import type { Values } from './figures.ts';
import { type StartForm, STREAMS } from './start-forms.ts';
import { Station } from './station.ts';

export interface Arrival {
  readonly form: StartForm;
  readonly imageBytes: number;
  readonly nodes: number;
  readonly replicas: number;
  /** Nodes arrive at random moments of it. */
  readonly withinSeconds: number;
  readonly seed: number;
  /**
   * `warm`: every replica has read everything before. `cold`: the image is indexed and in S3, and no replica
   * has any of its bytes.
   */
  readonly state: 'warm' | 'cold';
}

/** Times are seconds, sizes bytes. */
export interface ArrivalResult {
  /** From a node's first request until its container runs, for each node. */
  readonly startSeconds: readonly number[];
  /** Until the last container runs. */
  readonly totalSeconds: number;
  /** Work of the replica with the most, by resource. */
  readonly busiest: { readonly serving: number; readonly network: number; readonly inflating: number };
  readonly sentToNodes: number;
  readonly sentToReplicas: number;
  readonly fetchedFromS3: number;
  readonly s3Requests: number;
  readonly redisCommands: number;
  readonly mostNodesOfAReplica: number;
}

/** Most parts of one body; other responses are sent between two parts. */
const BODY_PARTS = 64;
const SMALLEST_PART_BYTES = 4 * 2 ** 20;
const DOCUMENT_BYTES = 20_000;
const BYTES_PER_GBPS = 1e9 / 8;

/** Layers of the image that matter; each has one replica that fetches it for all. */
const LAYERS = 5;
/** Concurrent requests of a fill (`fill.parallel`). */
const FILL_PARALLEL = 6;

/**
 * Nodes start one image at about the same time. Each node has one replica, as a balancer by address gives it.
 * A replica has a serving thread, a network card and threads that decompress, each with a queue. Cold
 * replicas copy the whole image in chunks, those first that nodes wait for. They have a chunk from the
 * replica that is responsible for its layer, and that one has it from S3; if it is too busy, S3 is next. No
 * replica fetches a chunk twice.
 */
export function simulateArrival(arrival: Arrival, values: Values): ArrivalResult {
  const { nodes, replicas, withinSeconds, seed } = arrival;
  const random = seededRandom(seed);
  const run = new Run(arrival, values);
  for (let node = 0; node < nodes; node++)
    run.addNode(random() * withinSeconds, Math.floor(random() * replicas));
  return run.finish();
}

interface Response {
  /** When the node sends the request. */
  readonly readySeconds: number;
  /** Besides that for its bytes. */
  readonly cpuMs: number;
  readonly bytes: number;
  /** The chunk that a part needs, from the share of the body before it; none for small documents. */
  readonly chunkOf?: (share: number) => number;
  /** Is decompressed first. */
  readonly span?: number | undefined;
}

class Replica {
  readonly serving = new Station();
  readonly network = new Station();
  readonly inflating: Station;
  /** Chunks that it has or fetches. */
  readonly chunks = new Map<number, Gate>();
  /** Spans that it has decompressed or decompresses, by the place of the read. */
  readonly spans = new Map<number, Gate>();
  nodes = 0;
  /** The next chunk that is copied in the background. */
  nextChunk = 0;

  constructor(inflateThreads: number) {
    this.inflating = new Station(inflateThreads);
  }
}

class Run {
  readonly #queue = new EventQueue();
  readonly #replicas: readonly Replica[];
  readonly #arrival: Arrival;
  readonly #values: Values;
  readonly #startSeconds: number[] = [];
  #endSeconds = 0;
  #sentToNodes = 0;
  #sentToReplicas = 0;
  #fetchedFromS3 = 0;
  #s3Requests = 0;
  #redisCommands = 0;

  constructor(arrival: Arrival, values: Values) {
    this.#arrival = arrival;
    this.#values = values;
    this.#replicas = Array.from({ length: arrival.replicas }, () => new Replica(values.inflateThreads));
  }

  addNode(atSeconds: number, place: number): void {
    this.#queue.add(atSeconds, this.#start(place));
  }

  finish(): ArrivalResult {
    this.#queue.run();
    const totalSeconds = this.#endSeconds;
    const most = (measure: (replica: Replica) => number): number => Math.max(...this.#replicas.map(measure));
    const { redisPerReplicaSecond } = this.#values;
    return {
      startSeconds: this.#startSeconds,
      totalSeconds,
      busiest: {
        serving: most(({ serving }) => serving.busySeconds),
        network: most(({ network }) => network.busySeconds),
        inflating: most(({ inflating }) => inflating.busySeconds / inflating.servers),
      },
      sentToNodes: this.#sentToNodes,
      sentToReplicas: this.#sentToReplicas,
      fetchedFromS3: this.#fetchedFromS3,
      s3Requests: this.#s3Requests,
      redisCommands: this.#redisCommands + redisPerReplicaSecond * totalSeconds * this.#replicas.length,
      mostNodesOfAReplica: most((replica) => replica.nodes),
    };
  }

  /** One node, from its first connection until its container runs. */
  *#start(place: number): Actor {
    const { form, state } = this.#arrival;
    const { connectionsPerNode, connectionCpuMs, documentCpuMs, rangeCpuMs } = this.#values;
    const { nodeSeconds, unpackMbPerSecond } = this.#values;
    const replica = this.#replica(place);
    const startedSeconds = this.#queue.nowSeconds;
    if (replica.nodes++ === 0 && state === 'cold')
      for (let worker = 0; worker < FILL_PARALLEL; worker++)
        this.#queue.add(startedSeconds, this.#copyImage(place));
    /** When the node sends its next request. */
    let readySeconds = replica.serving.serve(startedSeconds, (connectionsPerNode * connectionCpuMs) / 1000);
    for (let document = 0; document < form.documents; document++)
      readySeconds = yield* this.#send(place, {
        readySeconds,
        cpuMs: documentCpuMs,
        bytes: DOCUMENT_BYTES,
      });
    const streams = form.streamBytes > 0 ? STREAMS : 0;
    for (let stream = 0; stream < streams; stream++) {
      const bytes = form.streamBytes / streams;
      const chunkOf = (share: number): number => this.#chunkAt((stream + share) * bytes);
      readySeconds = yield* this.#send(place, { readySeconds, cpuMs: rangeCpuMs, bytes, chunkOf });
    }
    readySeconds += form.streamBytes / (unpackMbPerSecond * 1e6);
    for (let read = 0; read < form.reads; read++) {
      readySeconds += nodeSeconds / form.reads;
      const chunk = Math.floor((read / form.reads) * this.#chunks);
      const span = form.isInflated ? read : undefined;
      const chunkOf = (): number => chunk;
      const bytes = form.readBytes;
      readySeconds = yield* this.#send(place, { readySeconds, cpuMs: rangeCpuMs, bytes, chunkOf, span });
    }
    this.#startSeconds.push(readySeconds - startedSeconds);
    this.#endSeconds = Math.max(this.#endSeconds, readySeconds);
  }

  /**
   * A response, of which thread and card send part by part. Their queues have one order, so a part is with
   * the card when the thread has done it. Returns when the node has all of it.
   */
  *#send(place: number, response: Response): Actor<number> {
    const { readySeconds, cpuMs, bytes, chunkOf, span } = response;
    const { roundTripMs, sendCpuSecondsPerGb, replicaGbps, nodeGbps } = this.#values;
    const { serving, network } = this.#replica(place);
    const parts = partsOf(bytes);
    const partBytes = bytes / parts;
    let atSeconds = readySeconds + roundTripMs / 2000;
    for (let part = 0; part < parts; part++) {
      yield atSeconds;
      if (chunkOf !== undefined) {
        const chunk = chunkOf(part / parts);
        if (!this.#isReady(place, chunk, span)) yield* this.#prepare(place, chunk, span);
      }
      const { nowSeconds } = this.#queue;
      const work = (part === 0 ? cpuMs / 1000 : 0) + (partBytes / 1e9) * sendCpuSecondsPerGb;
      const handed = serving.serve(nowSeconds, work);
      const sent = network.serve(handed, partBytes / (replicaGbps * BYTES_PER_GBPS));
      atSeconds = Math.max(sent, nowSeconds + partBytes / (nodeGbps * BYTES_PER_GBPS));
    }
    this.#sentToNodes += bytes;
    return atSeconds + roundTripMs / 2000;
  }

  #isReady(place: number, chunk: number, span: number | undefined): boolean {
    if (this.#arrival.state === 'warm') return true;
    const { chunks, spans } = this.#replica(place);
    return span === undefined ? chunks.get(chunk)?.isOpen === true : spans.get(span)?.isOpen === true;
  }

  /** Returns when the replica has the chunk, and has decompressed the span if there is one. */
  *#prepare(place: number, chunk: number, span: number | undefined): Actor {
    if (span === undefined) return yield* this.#fetchChunk(place, chunk);
    const { inflateCpuSecondsPerGb, firstReadCpuMs, redisPerSpan } = this.#values;
    const { spans, inflating, serving } = this.#replica(place);
    const known = spans.get(span);
    if (known !== undefined) return yield known;
    const gate = new Gate();
    spans.set(span, gate);
    yield* this.#fetchChunk(place, chunk);
    this.#redisCommands += redisPerSpan;
    const work = (this.#arrival.form.readBytes / 1e9) * inflateCpuSecondsPerGb;
    yield inflating.serve(this.#queue.nowSeconds, work);
    yield serving.serve(this.#queue.nowSeconds, firstReadCpuMs / 1000);
    gate.open(this.#queue);
  }

  /** Returns when the replica has the chunk; the first one that needs it fetches it. */
  *#fetchChunk(place: number, chunk: number): Actor {
    const { chunks, serving } = this.#replica(place);
    const known = chunks.get(chunk);
    if (known?.isOpen === true) return;
    if (known !== undefined) return yield known;
    const gate = new Gate();
    chunks.set(chunk, gate);
    const bytes = this.#arrival.imageBytes / this.#chunks;
    const owner = this.#ownerOf(chunk);
    if (owner !== place) yield* this.#fetchChunk(owner, chunk);
    const { nowSeconds } = this.#queue;
    const isBusy = this.#replica(owner).serving.waitSeconds(nowSeconds) > this.#values.peerDeadlineSeconds;
    yield* owner === place || isBusy ? this.#fetchFromS3(bytes) : this.#sendToReplica(owner, bytes);
    yield serving.serve(this.#queue.nowSeconds, (bytes / 1e9) * this.#values.fillCpuSecondsPerGb);
    gate.open(this.#queue);
  }

  /** The whole image in the background, so that the replica has its own copy. */
  *#copyImage(place: number): Actor {
    const replica = this.#replica(place);
    while (replica.nextChunk < this.#chunks) yield* this.#fetchChunk(place, replica.nextChunk++);
  }

  *#fetchFromS3(bytes: number): Actor {
    const { s3FirstByteMs, s3ConnectionMbps } = this.#values;
    this.#s3Requests++;
    this.#fetchedFromS3 += bytes;
    yield this.#queue.nowSeconds + s3FirstByteMs / 1000 + bytes / (s3ConnectionMbps * 1e6);
  }

  *#sendToReplica(owner: number, bytes: number): Actor {
    const { rangeCpuMs, sendCpuSecondsPerGb, roundTripMs, replicaGbps } = this.#values;
    const sender = this.#replica(owner);
    this.#sentToReplicas += bytes;
    yield this.#queue.nowSeconds + roundTripMs / 1000;
    yield sender.serving.serve(
      this.#queue.nowSeconds,
      rangeCpuMs / 1000 + (bytes / 1e9) * sendCpuSecondsPerGb,
    );
    yield sender.network.serve(this.#queue.nowSeconds, bytes / (replicaGbps * BYTES_PER_GBPS));
  }

  /** The replica that fetches a chunk for all: each layer has one. */
  #ownerOf(chunk: number): number {
    const { replicas, seed } = this.#arrival;
    return (Math.floor((chunk / this.#chunks) * LAYERS) + seed) % replicas;
  }

  #chunkAt(byte: number): number {
    return Math.floor((byte / this.#arrival.imageBytes) * this.#chunks);
  }

  get #chunks(): number {
    return Math.ceil(this.#arrival.imageBytes / (this.#values.chunkMb * 1e6));
  }

  #replica(place: number): Replica {
    const replica = this.#replicas[place];
    if (replica === undefined) throw new RangeError(`no replica ${place}`);
    return replica;
  }
}

function partsOf(bytes: number): number {
  return Math.max(1, Math.min(BODY_PARTS, Math.ceil(bytes / SMALLEST_PART_BYTES)));
}
