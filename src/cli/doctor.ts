import { arch } from 'node:os';
import { parseArgs } from 'node:util';

import { type Config, environmentName } from '../config/config-keys.ts';
import { escapeLines } from '../core/escape-controls.ts';
import { containerPlatform, formatPlatform } from '../core/platform.ts';
import type { CommandHelp, Flags } from './terminal/command-help.ts';
import { askMirrors } from './doctor/ask-mirrors.ts';
import { checkAgreement } from './doctor/check-agreement.ts';
import { checkConfig } from './doctor/config/check-config.ts';
import { checkContainerd } from './doctor/check-containerd.ts';
import { checkDocker } from './doctor/check-docker.ts';
import { checkImage } from './doctor/image/check-image.ts';
import { checkMirrors } from './doctor/check-mirrors.ts';
import { checkMounts } from './doctor/check-mounts.ts';
import { checkPodman } from './doctor/check-podman.ts';
import { checkProxy } from './doctor/check-proxy.ts';
import { checkReady } from './doctor/check-ready.ts';
import { checkSnapshotter, type PullModes } from './doctor/check-snapshotter.ts';
import { checkUpstreams } from './doctor/check-upstreams.ts';
import { readContainerdConfig } from './doctor/containerd-config.ts';
import { doctorStatus, printFindings } from './doctor-status.ts';
import { type Finding, Report } from './doctor/finding.ts';
import { NodeFiles } from './doctor/node-files.ts';
import { describePlan, parseRegistry, planJson } from './node/node.ts';
import type { FileChange } from './node/node-plan.ts';
import { SavedFiles } from './node/saved-files.ts';
import { planNode } from './node/plan-node.ts';
import { EXIT } from './terminal/exit-status.ts';
import { parseUrlFlag } from './terminal/parse-url-flag.ts';
import { printJson } from './terminal/print-json.ts';
import { type ReachedListener, reachListener } from './terminal/reach-listener.ts';
import { locateImage, USUAL_PROXY } from '../client/locate-image.ts';
import { fileReader, readGivenConfig } from './config/read-config.ts';
import { UsageError } from './terminal/usage-error.ts';

const FLAGS = {
  proxy: {
    type: 'string',
    value: 'URL',
    about: `registry listener (default: as configured, else ${USUAL_PROXY})`,
  },
  admin: {
    type: 'string',
    value: 'URL',
    about: 'admin listener, asked for /readyz (default: as configured, else not asked)',
  },
  root: { type: 'string', default: '/', value: 'DIR', about: "root of the node's file system" },
  config: {
    type: 'string',
    value: 'FILE',
    about:
      "the proxy's: addresses; checks certificates, disk, Redis, replicas, bucket and upstreams (default: " +
      'the environment, if it has SPANDREL_UPSTREAMS)',
  },
  'min-coverage': {
    type: 'string',
    value: 'SHARE',
    about: "share of IMAGE's bytes that must be lazy, like 80%; else exit status 5",
  },
  fix: {
    type: 'boolean',
    default: false,
    about: "first change the node's files as `spandrel node setup --lazy` does",
  },
  registry: {
    type: 'string',
    multiple: true,
    default: [],
    value: 'HOST',
    about: 'with --fix: as of node setup (default: those of its hosts.toml files)',
  },
  'no-node': { type: 'boolean', default: false, about: 'skip the files of the node' },
  json: { type: 'boolean', default: false, about: 'print one JSON object instead of text' },
} satisfies Flags;

export const DOCTOR_HELP: CommandHelp = {
  usage: ['doctor [IMAGE] [--proxy URL] [--config FILE] [--min-coverage SHARE] [flags]'],
  about: [
    'Checks each step from a node to its registry: the proxy, its upstreams, containerd, hosts.toml, the ' +
      'soci-snapshotter, Docker, registries.conf, and the layers of IMAGE. For each mirrored registry it ' +
      'sends the requests that the node would send. It says why an image would not be lazy, and what to do.',
    'IMAGE is upstream/repository:tag, with @os/architecture if it is for another platform.',
    'With --json: {"ok","status","problems","findings","image"?}. A finding has area, status and message, ' +
      'and where they apply code, next, atBoot, platform, digest, bytes and registry.',
  ],
  flags: FLAGS,
  exits: [EXIT.notFound, EXIT.unreachable, EXIT.notLazy],
};

/** `spandrel doctor`: checks each step from a node to its registry, and says why images are not lazy. */
export async function doctor(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: FLAGS });
  const [image, ...more] = positionals;
  if (more.length > 0) throw new UsageError('expected at most one image like upstream/repository:tag');
  const minCoverage = parseShare(values['min-coverage']);
  if (values.fix && values['no-node']) throw new UsageError('--fix and --no-node exclude each other');
  if (minCoverage !== undefined && image === undefined)
    throw new UsageError('--min-coverage: expected an image');
  const given =
    values.config === undefined && process.env[environmentName('upstreams')] === undefined
      ? undefined
      : await readGivenConfig({ file: values.config, environment: process.env });
  const config = given?.config;
  const proxy = (await findListener('--proxy', values.proxy, config?.listen)) ?? {
    url: new URL(USUAL_PROXY),
    send: fetch,
  };
  const admin = await findListener('--admin', values.admin, config?.admin);
  const located = image === undefined ? undefined : locateImage(proxy.url.href, image);
  // A node pulls images of its own platform.
  const own = values['no-node'] ? undefined : formatPlatform(containerPlatform(arch()));

  const fixed = values.fix ? await fixNode(values.root, proxy.url, values.registry) : undefined;
  const reached = await checkProxy(proxy);
  const isReached = reached.every(({ status }) => status !== 'problem');
  const ready = admin === undefined ? [] : await checkReady(admin);
  const configured =
    given === undefined
      ? []
      : [
          ...(await checkConfig(given.config, fileReader(given))),
          ...(await checkUpstreams(given.config, process.env)),
        ];
  const node = values['no-node'] ? undefined : await checkNode(new NodeFiles(values.root), proxy, isReached);
  const pulled =
    located === undefined || !isReached
      ? { findings: [], platforms: [] }
      : await checkImage(
          { ...located, platform: located.platform ?? own },
          { send: proxy.send, modes: node?.modes, minCoverage },
        );
  const findings = [...reached, ...ready, ...configured, ...(node?.findings ?? []), ...pulled.findings];
  const status = doctorStatus(findings, pulled.platforms);
  const problems = findings.filter((finding) => finding.status === 'problem').length;
  const described = located === undefined ? {} : { image: { name: image, platforms: pulled.platforms } };
  const changed = fixed === undefined ? {} : { fixed: planJson(fixed.changes, fixed.left) };
  if (values.json)
    printJson({ ok: status === EXIT.ok, status, problems, findings, ...described, ...changed });
  else {
    if (fixed !== undefined) {
      const shown = { isDryRun: false, isRunning: values.root === '/' };
      process.stdout.write(`${escapeLines(describePlan(fixed.changes, fixed.left, shown))}\n`);
    }
    process.stdout.write(printFindings(findings, problems, process.stdout.columns));
  }
  return status;
}

/** What doctor finds on a node; `modes` is absent if the node cannot pull lazily. */
interface NodeCheck {
  readonly findings: readonly Finding[];
  readonly modes?: PullModes;
}

/** Checks the files of the node that doctor runs on. */
async function checkNode(
  files: NodeFiles,
  listener: ReachedListener,
  isReached: boolean,
): Promise<NodeCheck> {
  const findings = await checkReadable(files, listener, isReached);
  if (files.denied.length === 0) return findings;
  // Missing and unreadable files look alike: nothing that was found is certain.
  const report = new Report('node');
  report.problem(
    `no permission to read ${files.denied.join(', ')}: the rest of this node is not judged`,
    'run doctor as root: sudo, or kubectl debug --custom with {"securityContext": {"runAsUser": 0}}',
    { code: 'EACCES' },
  );
  return { findings: report.findings };
}

async function checkReadable(
  files: NodeFiles,
  listener: ReachedListener,
  isReached: boolean,
): Promise<NodeCheck> {
  const proxy = listener.url;
  const others = [...(await checkDocker(files, proxy)), ...(await checkPodman(files, proxy))];
  const found = await readContainerdConfig(files);
  const containerd = await checkContainerd(files, found);
  if (found.kind !== 'read') return { findings: [...containerd, ...others] };
  const mirrors = await checkMirrors(files, found.config, proxy);
  const { registries } = mirrors;
  const snapshotter = await checkSnapshotter(files, { proxy, mirrored: registries });
  const wanted = snapshotter.mirrors.map(({ registry }) => registry);
  const agreed = checkAgreement(mirrors, wanted, found.config, proxy);
  const asked = isReached
    ? await askMirrors({ proxy: listener, registries, mirrors: snapshotter.mirrors })
    : [];
  const mounts = await checkMounts(files);
  return {
    findings: [containerd, mirrors.findings, snapshotter.findings, agreed, asked, mounts, others].flat(),
    modes: snapshotter.modes,
  };
}

interface FixedNode {
  readonly changes: readonly FileChange[];
  readonly left: readonly string[];
}

/** Sets the node up for lazy pulls of registries that lead to the proxy, or are named. */
async function fixNode(root: string, url: URL, named: readonly string[]): Promise<FixedNode> {
  const proxy = new URL(url.origin);
  const files = new NodeFiles(root);
  const found = await readContainerdConfig(files);
  const known = found.kind === 'read' ? (await checkMirrors(files, found.config, proxy)).registries : [];
  const registries = [...new Set([...named.map(parseRegistry), ...known])];
  const plan = await planNode(root, { proxy, registries, isLazy: true });
  const changes = await plan.changes();
  await new SavedFiles(root).apply(changes);
  return { changes, left: plan.left };
}

/** The listener that a flag names, else the configured one. */
async function findListener(
  flag: string,
  text: string | undefined,
  configured: Config['listen'] | Config['admin'] | undefined,
): Promise<ReachedListener | undefined> {
  if (text !== undefined) return { url: parseUrlFlag(flag, text), send: fetch };
  return configured && (await reachListener(configured));
}

/** `80%`, `80` or `0.8`; 0 to 1. */
function parseShare(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, digits, sign] = /^(\d+(?:\.\d+)?)\s*(%?)$/.exec(text.trim()) ?? [];
  const value = Number(digits);
  const share = sign === '%' || value > 1 ? value / 100 : value;
  if (digits === undefined || share > 1)
    throw new UsageError(`--min-coverage: expected a share like 80%, got ${text}`);
  return share;
}
