import { posix } from 'node:path';

import { isLoopback } from '../../core/is-loopback.ts';
import type { Report } from './finding.ts';
import { tableAt, tablesOf, textOf, type TomlTable } from './node-files.ts';

/** A mirror of the soci-snapshotter that leads to the proxy. */
export interface SnapshotterMirror {
  /** As in image names. */
  readonly registry: string;
  /** `host` of the mirror, as written. */
  readonly address: string;
  readonly insecure: boolean;
}

/**
 * The path in front of repository names: that of the address replaces `/v2` (soci-snapshotter
 * `service/resolver/registry.go`).
 */
export function mirrorPath(address: string): string {
  const [, path = ''] = /^https?:\/\/[^/]*(.*)$/.exec(address) ?? [];
  return path === '' ? '/v2' : posix.join('/', path).replace(/\/$/, '');
}

/** Reads the mirrors that lead to the proxy, and reports those that lead nowhere. */
export function readMirrors(report: Report, config: TomlTable, proxy: URL): SnapshotterMirror[] {
  const found: SnapshotterMirror[] = [];
  for (const [registry, value] of Object.entries(tableAt(config, 'resolver', 'host'))) {
    for (const { host, insecure } of tablesOf((value as TomlTable)['mirrors'])) {
      const address = textOf(host) ?? '';
      if (!/^https?:\/\//.test(address) || !URL.canParse(address))
        report.problem(
          `the mirror "${address}" of ${registry} has no scheme, so it is not used`,
          `write host = "${proxy.protocol}//${address.replace(/^[a-z]*:?\/*/, '')}"`,
        );
      else if (new URL(address).host === proxy.host)
        found.push({ registry, address, insecure: insecure === true });
    }
  }
  return found;
}

/**
 * Reports mirrors to which the snapshotter speaks another protocol than the proxy. It ignores the scheme
 * of the address.
 */
export function checkProtocol(report: Report, proxy: URL, mirror: SnapshotterMirror): void {
  const { registry, address, insecure } = mirror;
  const isLocal = isLoopback(proxy.hostname);
  const name = `the mirror "${address}" of ${registry}`;
  const speaksTls = !isLocal && !insecure;
  if (speaksTls && proxy.protocol === 'http:') {
    report.problem(
      `the snapshotter speaks HTTPS to ${name}, but the proxy speaks plain HTTP`,
      'add insecure = true to this mirror, or give the proxy TLS',
    );
  } else if (!speaksTls && proxy.protocol === 'https:') {
    if (isLocal) reportLoopback(report, name);
    else
      report.problem(
        `insecure = true makes the snapshotter speak plain HTTP to ${name}, but the proxy has TLS`,
        'remove insecure from this mirror',
      );
  } else if (isLocal && address.startsWith('https:')) {
    report.note(
      `the snapshotter speaks plain HTTP to ${name}, as to every loopback address, whatever the scheme`,
      `write host = "${address.replace('https:', 'http:')}"`,
    );
  }
  if (insecure)
    report.note(
      `insecure = true of ${name} makes the snapshotter (0.15 and later) speak plain HTTP to ${registry} ` +
        'too, for layers without an index',
      isLocal
        ? 'remove insecure: a loopback address needs none'
        : 'give the proxy TLS, and remove insecure, if that registry does not serve plain HTTP',
    );
}

/** The snapshotter cannot reach `subject`, an address of the proxy, if it is loopback and has TLS. */
export function reportLoopback(report: Report, subject: string): void {
  report.problem(
    `the snapshotter speaks plain HTTP to ${subject}, as to every loopback address, whatever the scheme; ` +
      'the proxy has TLS there: not lazy',
    "name the proxy by another address of this node, or remove listen.tls from the proxy's configuration",
  );
}
