import { cleanup } from './cleanup.ts';
import { RunningApp, type RunningAppOptions } from './running-app.ts';
import { SpandrelProcess } from './spandrel-process.ts';
import { temporaryFolder } from './temporary-folder.ts';

export interface ProxyOptions extends Omit<RunningAppOptions, 'upstreams'> {
  /** Further keys of the upstream. */
  readonly upstream?: object;
}

/** The proxy in front of one upstream, `up`, which is the default. It ends with the test. */
export async function proxyWith(
  { url }: { readonly url: string },
  { upstream, ...options }: ProxyOptions = {},
): Promise<RunningApp> {
  const upstreams = [{ name: 'up', url, default: true, ...upstream }];
  return cleanup.use(await RunningApp.start({ ...options, upstreams }));
}

/** `spandrel serve` in a process of its own, with its addresses. */
export interface ServedProxy {
  readonly process: SpandrelProcess;
  readonly url: string;
  readonly adminUrl: string;
  readonly root: string;
}

/** As {@link proxyWith}, in a process of its own. It is killed at the end of the test. */
export async function serveWith(
  { url }: { readonly url: string },
  {
    upstream,
    environment,
    root,
  }: Pick<ProxyOptions, 'upstream' | 'environment'> & { readonly root?: string } = {},
): Promise<ServedProxy> {
  const store = root ?? (await temporaryFolder());
  const process = cleanup.use(
    new SpandrelProcess(['serve'], {
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_PORT: '0',
      SPANDREL_STORAGE_ROOT: store,
      SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'up', url, default: true, ...upstream }]),
      ...environment,
    }),
  );
  return { process, ...(await process.listening()), root: store };
}
