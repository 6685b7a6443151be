import { arch } from 'node:os';
import { parseArgs } from 'node:util';

import type { Config } from '../config/config-keys.ts';
import { containerPlatform, formatPlatform } from '../core/platform.ts';
import { escapeControls } from '../core/escape-controls.ts';
import type { CommandHelp, Flags } from './terminal/command-help.ts';
import { checkContainerd } from './doctor/check-containerd.ts';
import { checkDocker } from './doctor/check-docker.ts';
import { checkImage } from './doctor/check-image.ts';
import { checkMirrors } from './doctor/check-mirrors.ts';
import { checkPodman } from './doctor/check-podman.ts';
import { checkProxy } from './doctor/check-proxy.ts';
import { checkSnapshotter, type PullModes } from './doctor/check-snapshotter.ts';
import { checkUpstreams } from './doctor/check-upstreams.ts';
import { readContainerdConfig } from './doctor/containerd-config.ts';
import type { Finding } from './doctor/finding.ts';
import { NodeFiles } from './doctor/node-files.ts';
import { printJson } from './terminal/print-json.ts';
import { locateImage, USUAL_PROXY } from './terminal/ask-proxy.ts';
import { readConfig } from './config/read-config.ts';
import { UsageError } from './terminal/usage-error.ts';

const FLAGS = {
  proxy: { type: 'string', default: USUAL_PROXY, value: 'URL', about: 'registry listener of the proxy' },
  root: { type: 'string', default: '/', value: 'DIR', about: "root of the node's file system" },
  config: {
    type: 'string',
    value: 'FILE',
    about: 'configuration file of the proxy: checks its upstreams and their credentials',
  },
  'no-node': { type: 'boolean', default: false, about: 'skip the files of the node' },
  json: { type: 'boolean', default: false, about: 'print one JSON object instead of text' },
} satisfies Flags;

export const DOCTOR_HELP: CommandHelp = {
  usage: ['doctor [IMAGE] [--proxy URL] [--root DIR] [--config FILE] [--no-node] [--json]'],
  about: [
    'Checks each step from a node to its registry: the proxy, its upstreams, containerd, hosts.toml, the',
    'soci-snapshotter, Docker, registries.conf, and the layers of IMAGE. It says why an image would ' +
      'not be lazy,',
    'and what to do next. IMAGE is upstream/repository:tag, with @os/architecture if it is for another ' +
      'platform.',
    'Exit status: 0 without problems, 1 with problems, 2 for a wrong command line.',
  ],
  flags: FLAGS,
};

/** `spandrel doctor`: checks each step from a node to its registry, and says why images are not lazy. */
export async function doctor(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: FLAGS,
  });
  const [image, ...more] = positionals;
  if (more.length > 0) throw new UsageError('expected at most one image like upstream/repository:tag');
  if (!URL.canParse(values.proxy) || !/^https?:/.test(values.proxy))
    throw new UsageError(`--proxy: expected http(s)://host:port, got ${values.proxy}`);
  const proxy = new URL(values.proxy);
  const located = image === undefined ? undefined : locateImage(proxy.href, image);
  // A node pulls images of its own platform.
  const own = values['no-node'] ? undefined : formatPlatform(containerPlatform(arch()));

  const reached = await checkProxy(proxy);
  const upstreams =
    values.config === undefined ? [] : await checkUpstreams(await configOf(values.config), process.env);
  const node = values['no-node'] ? undefined : await checkNode(new NodeFiles(values.root), proxy);
  const isReached = reached.every(({ status }) => status !== 'problem');
  const pulled =
    located !== undefined && isReached
      ? await checkImage({ ...located, platform: located.platform ?? own }, node?.modes)
      : [];
  const findings = [...reached, ...upstreams, ...(node?.findings ?? []), ...pulled];
  const problems = findings.filter(({ status }) => status === 'problem').length;
  if (values.json) printJson({ ok: problems === 0, problems, findings });
  else process.stdout.write(print(findings, problems));
  return problems === 0 ? 0 : 1;
}

async function configOf(file: string): Promise<Config> {
  return (await readConfig({ file, environment: process.env })).config;
}

/** Checks the files of the node that doctor runs on; `modes` is absent if the node cannot pull lazily. */
async function checkNode(files: NodeFiles, proxy: URL): Promise<{ findings: Finding[]; modes?: PullModes }> {
  const others = [...(await checkDocker(files, proxy)), ...(await checkPodman(files, proxy))];
  const found = await readContainerdConfig(files);
  const containerd = await checkContainerd(files, found);
  if (found.kind !== 'read') return { findings: [...containerd, ...others] };
  const mirrors = await checkMirrors(files, found.config, proxy);
  const snapshotter = await checkSnapshotter(files, { proxy, mirrored: mirrors.registries });
  return {
    findings: [...containerd, ...mirrors.findings, ...snapshotter.findings, ...others],
    modes: snapshotter.modes,
  };
}

function print(findings: readonly Finding[], problems: number): string {
  const lines = findings.flatMap(({ area, status, message, next }) => [
    `${area.padEnd(12)}${(status === 'problem' ? 'PROBLEM' : status).padEnd(9)}${escapeControls(message)}\n`,
    ...(next === undefined ? [] : [`${' '.repeat(21)}-> ${escapeControls(next)}\n`]),
  ]);
  const verdict = problems === 0 ? 'no problem found' : problems === 1 ? '1 problem' : `${problems} problems`;
  return `${lines.join('')}${verdict}\n`;
}
