/** A history is data: it is printed as lines of JSON, first the set-up, and can be replayed from them. */
export interface History {
  readonly setUp: SetUp;
  readonly actions: readonly Action[];
}

/** The set-up of a history. */
export interface SetUp {
  /** Seed of the images. */
  readonly seed: number;
  readonly replicas: 1 | 2;
  readonly redis: boolean;
  /** Replicas share a key, and so accept indexes from each other. */
  readonly redisKey: boolean;
  readonly storeBytes: number;
  readonly memoryBytes: number;
  readonly tagSeconds: number;
  readonly latencyMs: number;
  readonly background: boolean;
  /** Threads for builds, and threads for reads. */
  readonly threads: 1 | 2;
  /** The upstream redirects blobs to a private address, of which nothing is served before it is verified. */
  readonly redirects: boolean;
  /**
   * Stored blobs decay, and a fast scrub finds that. Otherwise there is no scrub, which would hide faults of
   * the store.
   */
  readonly decays: boolean;
  /** How clients connect to the registry listener. */
  readonly wire: 'http' | 'tls' | 'tls h2';
  readonly access: 'open' | 'htpasswd' | 'upstream';
  /** A SOCI index that the publisher of one image has pushed. */
  readonly pushed: PushedKind;
}

/**
 * `damaged`: a malformed zTOC. `wrong`: a zTOC of another layer. `missing`: the upstream has the zTOCs only
 * after its first rest.
 */
export type PushedKind = 'none' | 'right' | 'damaged' | 'wrong' | 'missing';

/** Folders of the store, or all partial blobs. */
export type StoredFolder = 'blobs' | 'partial' | 'indexes' | 'manifests' | 'tags' | 'origins';

export type ClientKind = 'containerd' | 'mirror' | 'docker' | 'skopeo' | 'snapshotter' | 'curl';

/** Objects are named by their position in the content, and parts by fractions in [0, 1). */
export type Wanted =
  | { readonly of: 'tag'; readonly repository: number; readonly tag: number }
  | { readonly of: 'manifest'; readonly repository: number; readonly place: number }
  | { readonly of: 'blob'; readonly repository: number; readonly place: number }
  /** Possibly only in another repository. */
  | { readonly of: 'foreign'; readonly repository: number; readonly layer: number }
  | { readonly of: 'tar' | 'layer' | 'files' | 'spans'; readonly repository: number; readonly place: number }
  | {
      readonly of: 'span' | 'file';
      readonly repository: number;
      readonly place: number;
      readonly share: number;
    }
  | { readonly of: 'imageFile'; readonly repository: number; readonly place: number; readonly share: number }
  | { readonly of: 'image' | 'referrers'; readonly repository: number; readonly place: number }
  | { readonly of: 'tags'; readonly repository: number };

export interface GetAction {
  readonly do: 'get';
  readonly replica: number;
  readonly client: ClientKind;
  readonly head?: boolean;
  /** `[from, to)`, as fractions of the whole. */
  readonly range?: readonly [number, number];
  /** The client aborts after this many bytes. */
  readonly leaveAfterBytes?: number;
  readonly wanted: Wanted;
}

export type UpstreamFault =
  | { readonly kind: 'status'; readonly status: number }
  | { readonly kind: 'reset'; readonly afterBytes?: number }
  | { readonly kind: 'stall' | 'truncate'; readonly afterBytes: number }
  /** Flips one bit of every response, at this fraction of its body. */
  | { readonly kind: 'corrupt'; readonly share: number }
  | { readonly kind: 'length'; readonly delta: number }
  /** No response until the faults end. */
  | { readonly kind: 'hold' };

export type Action =
  | GetAction
  /** A pull of a whole image by its tag; with `roams`, each request goes to the next replica. */
  | {
      readonly do: 'pull';
      readonly replica: number;
      readonly client: ClientKind;
      readonly repository: number;
      readonly tag: number;
      readonly roams: boolean;
    }
  /** As containerd with the soci-snapshotter: pulls, mounts, reads a file. */
  | {
      readonly do: 'mount';
      readonly replica: number;
      readonly repository: number;
      readonly tag: number;
      readonly discovery: 'v1' | 'v2';
    }
  /** A client without credentials, or with wrong ones. */
  | {
      readonly do: 'intrude';
      readonly replica: number;
      readonly wanted: Wanted;
      readonly shows: 'nothing' | 'wrong password';
    }
  | { readonly do: 'warm'; readonly replica: number; readonly repository: number; readonly tag: number }
  | { readonly do: 'delete'; readonly replica: number; readonly layer: number }
  | { readonly do: 'moveTag'; readonly repository: number; readonly tag: number; readonly top: number }
  /** The upstream loses a layer in all repositories until the next rest. */
  | { readonly do: 'lose'; readonly layer: number }
  | { readonly do: 'rules'; readonly rules: number }
  /** For the next `times` requests with `on` in their path. */
  | { readonly do: 'fault'; readonly on: FaultedPath; readonly times: number; readonly fault: UpstreamFault }
  | { readonly do: 'clearFaults' }
  | { readonly do: 'redis'; readonly what: 'flush' | 'kill' | 'resume' | 'garble' | 'hang' }
  | { readonly do: 'disk'; readonly replica: number; readonly state: DiskState }
  /** Changes one stored file, given as a fraction of the folder, or all of them. */
  | {
      readonly do: 'damage';
      readonly replica: number;
      readonly folder: StoredFolder;
      readonly share: number;
      readonly reach: 'one' | 'all';
      readonly how: 'cut' | 'flip' | 'grow' | 'remove';
    }
  | { readonly do: 'descriptors'; readonly replica: number; readonly areFew: boolean }
  | { readonly do: 'clock'; readonly replica: number; readonly stepSeconds: number }
  | { readonly do: 'kill' | 'term'; readonly replica: number }
  | { readonly do: 'pause'; readonly ms: number }
  /** Ends all faults: everything must be right again, and nothing may be left. */
  | { readonly do: 'rest'; readonly empties: boolean };

export type DiskState = 'fine' | 'full' | 'read-only';

export type FaultedPath = '/manifests/' | '/blobs/' | '/referrers/' | '/';

export function printHistory({ setUp, actions }: History): string {
  return [setUp, ...actions].map((line) => `${JSON.stringify(line)}\n`).join('');
}

/** @throws SyntaxError for anything but the output of {@link printHistory} */
export function parseHistory(text: string): History {
  const [setUp, ...actions] = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  if (setUp === undefined) throw new SyntaxError('no history');
  return { setUp: setUp as SetUp, actions: actions as Action[] };
}
