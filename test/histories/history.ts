/** A history is data: it is printed as lines of JSON, the set-up first, and played again from them. */
export interface History {
  readonly setUp: SetUp;
  readonly actions: readonly Action[];
}

/** What all of a history happens to. */
export interface SetUp {
  /** Of the images. */
  readonly seed: number;
  readonly replicas: 1 | 2;
  readonly redis: boolean;
  /** Replicas share a key, and so take indexes from each other. */
  readonly redisKey: boolean;
  readonly storeBytes: number;
  readonly memoryBytes: number;
  readonly tagSeconds: number;
  readonly latencyMs: number;
  readonly background: boolean;
  /** Threads that index, and threads that decompress. */
  readonly threads: 1 | 2;
  /** The upstream redirects blobs to another address, which is private: nothing from there is sent before it is verified. */
  readonly redirects: boolean;
  /** Stored blobs change by themselves, and a fast scrub finds them. Without, there is no scrub: it would hide faults of the store. */
  readonly decays: boolean;
  /** How clients reach the registry listener. */
  readonly wire: 'http' | 'tls' | 'tls h2';
  readonly access: 'open' | 'htpasswd' | 'upstream';
  /** A SOCI index of one image that its publisher has pushed. */
  readonly pushed: PushedKind;
}

/**
 * `damaged`: a zTOC is none. `wrong`: a zTOC is one, but not of the layer. `missing`: the upstream has the zTOCs only when it first comes
 * to rest.
 */
export type PushedKind = 'none' | 'right' | 'damaged' | 'wrong' | 'missing';

/** Folders of the store, or all partial blobs. */
export type StoredFolder = 'blobs' | 'partial' | 'indexes' | 'manifests' | 'tags' | 'origins';

export type ClientKind = 'containerd' | 'mirror' | 'docker' | 'skopeo' | 'snapshotter' | 'curl';

/** Things are named by their places in the content, shares of a whole by numbers in [0, 1). */
export type Wanted =
  | { readonly of: 'tag'; readonly repository: number; readonly tag: number }
  | { readonly of: 'manifest'; readonly repository: number; readonly place: number }
  | { readonly of: 'blob'; readonly repository: number; readonly place: number }
  /** Of another repository only, perhaps. */
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
  /** `[from, to)`, in shares of the whole. */
  readonly range?: readonly [number, number];
  /** The client goes away after so many bytes. */
  readonly leaveAfterBytes?: number;
  readonly wanted: Wanted;
}

export type UpstreamFault =
  | { readonly kind: 'status'; readonly status: number }
  | { readonly kind: 'reset'; readonly afterBytes?: number }
  | { readonly kind: 'stall' | 'truncate'; readonly afterBytes: number }
  /** One bit of every response, at a share of its body. */
  | { readonly kind: 'corrupt'; readonly share: number }
  | { readonly kind: 'length'; readonly delta: number }
  /** Nothing is answered until the faults end. */
  | { readonly kind: 'hold' };

export type Action =
  | GetAction
  /** A whole image by its tag, and every answer leads to the next; with `roams`, each request goes to the next replica. */
  | {
      readonly do: 'pull';
      readonly replica: number;
      readonly client: ClientKind;
      readonly repository: number;
      readonly tag: number;
      readonly roams: boolean;
    }
  /** As containerd with the soci-snapshotter: pull, mount, read a file. */
  | {
      readonly do: 'mount';
      readonly replica: number;
      readonly repository: number;
      readonly tag: number;
      readonly discovery: 'v1' | 'v2';
    }
  /** Somebody without credentials, or with wrong ones. */
  | {
      readonly do: 'intrude';
      readonly replica: number;
      readonly wanted: Wanted;
      readonly shows: 'nothing' | 'wrong password';
    }
  | { readonly do: 'warm'; readonly replica: number; readonly repository: number; readonly tag: number }
  | { readonly do: 'delete'; readonly replica: number; readonly layer: number }
  | { readonly do: 'moveTag'; readonly repository: number; readonly tag: number; readonly top: number }
  /** The upstream loses a layer in all repositories, until it comes to rest. */
  | { readonly do: 'lose'; readonly layer: number }
  | { readonly do: 'rules'; readonly rules: number }
  /** For requests that have `on` in their path, `times` of them. */
  | { readonly do: 'fault'; readonly on: FaultedPath; readonly times: number; readonly fault: UpstreamFault }
  | { readonly do: 'clearFaults' }
  | { readonly do: 'redis'; readonly what: 'flush' | 'kill' | 'resume' | 'garble' | 'hang' }
  | { readonly do: 'disk'; readonly replica: number; readonly state: DiskState }
  /** A stored file, by its share of those in the folder, changes by itself, or each of them does. */
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
  /** All ends that went wrong: everything has to be right again, and nothing may be left. */
  | { readonly do: 'rest'; readonly empties: boolean };

export type DiskState = 'fine' | 'full' | 'read-only';

export type FaultedPath = '/manifests/' | '/blobs/' | '/referrers/' | '/';

export function printHistory({ setUp, actions }: History): string {
  return [setUp, ...actions].map((line) => `${JSON.stringify(line)}\n`).join('');
}

/** @throws SyntaxError for what {@link printHistory} has not printed */
export function parseHistory(text: string): History {
  const [setUp, ...actions] = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  if (setUp === undefined) throw new SyntaxError('no history');
  return { setUp: setUp as SetUp, actions: actions as Action[] };
}
