import { parseEcrHost } from '../../core/ecr-host.ts';
import { isSpandrelError, type SpandrelError } from '../../core/errors.ts';
import { isDockerHub } from '../../upstream/credentials/is-docker-hub.ts';
import { askProxy } from '../../client/ask-proxy.ts';
import type { ReachedListener } from '../terminal/reach-listener.ts';
import { type Finding, Report } from './finding.ts';
import { nextStep } from './next-step.ts';
import { isSameRegistry } from './is-same-registry.ts';
import { mirrorPath, type SnapshotterMirror } from './snapshotter-mirrors.ts';

const ASK_MS = 10_000;
/** Any name: the proxy answers `tags/list?n=0` without asking the upstream. */
const SAMPLE_REPOSITORY = 'library/doctor';

export interface MirrorQuestion {
  readonly proxy: ReachedListener;
  /** Registries for which containerd has the proxy as a mirror. */
  readonly registries: readonly string[];
  readonly mirrors: readonly SnapshotterMirror[];
}

/** The upstream that the proxy selects. `unnamed`: the response does not name it. */
type Selected =
  | { readonly kind: 'selected'; readonly host: string }
  | { readonly kind: 'unnamed' }
  | { readonly kind: 'refused' | 'locked' | 'failed'; readonly error: SpandrelError };

/**
 * Asks the proxy what this node would ask for each mirrored registry: containerd by `?ns=`, the
 * snapshotter by the path of its mirror.
 */
export async function askMirrors({ proxy, registries, mirrors }: MirrorQuestion): Promise<Finding[]> {
  const report = new Report('mirrors');
  for (const registry of registries) await askNamespace(report, proxy, registry);
  for (const mirror of mirrors) await askMirror(report, proxy, mirror);
  return report.findings;
}

async function askNamespace(report: Report, proxy: ReachedListener, registry: string): Promise<void> {
  const question = `?ns=${registry}, which containerd sends`;
  const selected = await select(proxy, registry);
  if (selected.kind === 'selected') report.ok(`the proxy accepts ${question}: upstream ${selected.host}`);
  else if (selected.kind === 'unnamed') report.ok(`the proxy accepts ${question}`);
  else if (selected.kind !== 'refused') reportError(report, selected.error);
  else
    report.problem(
      `the proxy refuses ${question}: no upstream has this host, so nothing of it comes through the proxy`,
      `add to upstreams in the proxy's configuration: ${upstreamLine(registry)}`,
      { code: 'DENIED', registry },
    );
}

async function askMirror(report: Report, proxy: ReachedListener, mirror: SnapshotterMirror): Promise<void> {
  const { origin } = proxy.url;
  const { registry, address } = mirror;
  const path = mirrorPath(address);
  const [first, ...rest] = path.split('/').filter((segment) => segment !== '');
  const [segment] = first === 'v2' ? rest : [first, ...rest];
  const next =
    `write host = "${origin}/v2/${registry}" in [[resolver.host."${registry}".mirrors]] of the ` +
    "snapshotter's configuration";
  const url = `${origin}${path}/${SAMPLE_REPOSITORY}`;
  const asked = `the snapshotter requests layers of ${registry} at ${origin}${path}/…`;
  const wrong = (why: string, step = next): void =>
    report.problem(`${asked}, ${why}: not lazy`, step, { code: 'NAME_UNKNOWN', registry });
  const selected = await select(proxy, segment);
  if (selected.kind === 'locked' || selected.kind === 'failed') reportError(report, selected.error);
  else if (selected.kind === 'unnamed' && segment === undefined)
    wrong('which names no upstream, and the proxy has no default');
  else if (selected.kind === 'refused') {
    const isRight = segment !== undefined && isSameRegistry(segment, registry);
    wrong(
      `and no upstream has the name or host "${segment ?? ''}"`,
      isRight ? `add to upstreams in the proxy's configuration: ${upstreamLine(registry)}` : next,
    );
  } else if (selected.kind === 'selected' && !isSameRegistry(selected.host, registry))
    wrong(`which is the upstream ${selected.host}`);
  else await askUrl(report, { proxy, url, asked, wrong });
}

interface MirrorAddress {
  readonly proxy: ReachedListener;
  /** Of a repository. */
  readonly url: string;
  /** What is asked, for the report. */
  readonly asked: string;
  readonly wrong: (why: string) => void;
}

async function askUrl(report: Report, { proxy, url, asked, wrong }: MirrorAddress): Promise<void> {
  try {
    await ask(proxy, `${url}/tags/list?n=0`);
    report.ok(`${asked}, where the proxy has them`);
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    if (isLocked(error)) reportError(report, error);
    else wrong(`where the proxy says ${error.code}: ${error.message}`);
  }
}

/** Which upstream `name` selects, a name or host; without one, the default. */
async function select(proxy: ReachedListener, name: string | undefined): Promise<Selected> {
  const query = name === undefined ? '' : `?ns=${encodeURIComponent(name)}`;
  try {
    const response = await ask(proxy, new URL(`/v2/${query}`, proxy.url).href);
    const host = response.headers.get('oci-namespace');
    return host === null ? { kind: 'unnamed' } : { kind: 'selected', host };
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    const kind = error.code === 'DENIED' ? 'refused' : isLocked(error) ? 'locked' : 'failed';
    return { kind, error };
  }
}

async function ask({ send }: ReachedListener, url: string): Promise<Response> {
  const response = await askProxy(url, { signal: AbortSignal.timeout(ASK_MS) }, send);
  await response.body?.cancel();
  return response;
}

function isLocked(error: unknown): boolean {
  return isSpandrelError(error, 'UNAUTHORIZED', 'UPSTREAM_CREDENTIALS_REFUSED');
}

/** Reports that a question has no answer. */
function reportError(report: Report, error: SpandrelError): void {
  const { code, message } = error;
  if (isLocked(error))
    report.note(
      `the proxy wants credentials, so its mirrors cannot be checked from here: ${message}`,
      'see access in its configuration',
    );
  else
    report.problem(`the proxy does not say where its mirrors lead: ${message}`, nextStep(code, error), {
      code,
    });
}

/** One line of `upstreams` in YAML. */
function upstreamLine(registry: string): string {
  const ecr = parseEcrHost(registry) !== undefined;
  const label = registry.split(/[.:]/)[0] ?? '';
  const name = isDockerHub(registry) ? 'hub' : ecr ? 'ecr' : label;
  return `- { name: ${name}, host: '${registry}'${ecr ? ', auth: { kind: ecr }' : ''} }`;
}
