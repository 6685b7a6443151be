import { isSpandrelError, SpandrelError } from '../errors.ts';

/** What a process can run out of, while its disk and its upstreams are sound. */
export type Shortage = 'descriptors' | 'machine_descriptors' | 'memory' | 'threads' | 'ports';

interface Meaning {
  readonly words: string;
  /** What the operator does. */
  readonly remedy: string;
}

export const SHORTAGES: Readonly<Record<Shortage, Meaning>> = {
  descriptors: {
    words: 'no file descriptors left',
    remedy: 'raise LimitNOFILE (ulimit -n) and restart',
  },
  machine_descriptors: { words: 'no file descriptors left on this machine', remedy: 'raise fs.file-max' },
  memory: { words: 'no memory left', remedy: 'give the proxy more memory' },
  threads: {
    words: 'no more threads or processes can be started',
    remedy: 'raise the limit of processes (TasksMax, pids.max, ulimit -u) and restart',
  },
  ports: {
    words: 'no local ports left for connections',
    remedy: 'widen net.ipv4.ip_local_port_range, or find what holds so many connections',
  },
};

const BY_CODE: Readonly<Record<string, Shortage>> = {
  EMFILE: 'descriptors',
  ENFILE: 'machine_descriptors',
  ENOMEM: 'memory',
  ENOBUFS: 'memory',
  ERR_MEMORY_ALLOCATION_FAILED: 'memory',
  ERR_WORKER_OUT_OF_MEMORY: 'memory',
};

/** Longest chain of causes that is followed. */
const MAX_CAUSES = 8;

/** The shortage that an error, or one of its causes, is about. */
export function shortageOf(error: unknown): Shortage | undefined {
  let cause = error;
  for (let depth = 0; cause instanceof Error && depth < MAX_CAUSES; depth++) {
    const found = ownShortage(cause);
    if (found !== undefined) return found;
    cause = cause.cause;
  }
  return undefined;
}

/** RESOURCE_EXHAUSTED if `error` is about a shortage. @param failed what could not be done, in words */
export function shortageFault(error: unknown, failed: string): SpandrelError | undefined {
  if (isSpandrelError(error, 'RESOURCE_EXHAUSTED')) return error;
  const shortage = shortageOf(error);
  if (shortage === undefined) return undefined;
  const { words } = SHORTAGES[shortage];
  return new SpandrelError('RESOURCE_EXHAUSTED', `${words}: ${failed}`, { cause: error });
}

function ownShortage(error: Error): Shortage | undefined {
  // The addresses of one host, tried in turn: each has its own error.
  if (error instanceof AggregateError)
    for (const one of error.errors) {
      const found = one instanceof Error ? ownShortage(one) : undefined;
      if (found !== undefined) return found;
    }
  const { code = '', syscall = '' } = error as NodeJS.ErrnoException;
  if (Object.hasOwn(BY_CODE, code)) return BY_CODE[code];
  // Node names the system's code in the message only.
  if (code === 'ERR_WORKER_INIT_FAILED')
    return Object.entries(BY_CODE).find(([name]) => error.message.includes(name))?.[1] ?? 'threads';
  if (code === 'EAGAIN' && syscall.startsWith('spawn')) return 'threads';
  return code === 'EADDRNOTAVAIL' && syscall === 'connect' ? 'ports' : undefined;
}
