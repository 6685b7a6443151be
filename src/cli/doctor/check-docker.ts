import { type Finding, Report } from './finding.ts';
import type { NodeFiles } from './node-files.ts';

export const DOCKER_FILE = '/etc/docker/daemon.json';

/** Checks Docker's registry-mirrors, which apply to Docker Hub only and to the root of a host only. */
export async function checkDocker(files: NodeFiles, proxy: URL): Promise<Finding[]> {
  const report = new Report('docker');
  const text = await files.readText(DOCKER_FILE);
  if (text === undefined) return [];
  const config = parseDaemonConfig(text);
  if (config === undefined) {
    report.problem(`${DOCKER_FILE} is not valid JSON: Docker does not start`, 'correct it');
    return report.findings;
  }
  const mirrors = textList(config['registry-mirrors']);
  const own = mirrors.find((mirror) => URL.canParse(mirror) && new URL(mirror).host === proxy.host);
  if (own === undefined) {
    report.note(
      `Docker does not have ${proxy.origin} as a mirror`,
      `set "registry-mirrors": ["${proxy.origin}"] in ${DOCKER_FILE} (Docker Hub only), or name images ` +
        `${proxy.host}/…`,
    );
  } else if (new URL(own).pathname !== '/') {
    report.problem(
      `Docker refuses the mirror ${own}: a mirror must not have a path`,
      `write "${new URL(own).origin}", and mark the upstream docker.io as default in the proxy's ` +
        'configuration',
    );
  } else
    report.ok(
      `Docker asks ${own} for images of Docker Hub; the upstream docker.io must be the proxy's default`,
    );
  const isLocal = ['localhost', '127.0.0.1'].includes(proxy.hostname);
  if (
    proxy.protocol === 'http:' &&
    !isLocal &&
    !textList(config['insecure-registries']).includes(proxy.host)
  ) {
    report.problem(
      `Docker expects HTTPS at ${proxy.host}, but the proxy speaks plain HTTP`,
      `set "insecure-registries": ["${proxy.host}"], or give the proxy TLS`,
    );
  }
  return report.findings;
}

/** Docker's configuration; `undefined` if it is no JSON object. */
export function parseDaemonConfig(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    // Invalid JSON is reported, not thrown.
    return undefined;
  }
}

export function textList(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
