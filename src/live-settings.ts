import { arch } from 'node:os';

import type { Patience } from './cache/patience.ts';
import { changedKeys } from './config/changed-keys.ts';
import type { ReadFile } from './config/config-files.ts';
import type { Config, ConfigPath } from './config/config-keys.ts';
import { SpandrelError } from './core/errors.ts';
import { containerPlatform } from './core/platform.ts';
import type { AccessGate } from './http/access/access-gate.ts';
import type { AdminGuard } from './http/access/admin-guard.ts';
import { createAdminRules } from './http/access/create-admin-rules.ts';
import { createAccessRules } from './http/access/create-access-rules.ts';
import type { Connections } from './http/listener/connections.ts';
import { readTlsMaterial } from './http/listener/tls-material.ts';
import type { IndexPolicies, IndexPolicy } from './images/lazy/index-policy.ts';
import type { Logger } from './telemetry/logger.ts';
import type { Events } from './telemetry/events.ts';

export interface LiveSettingsDeps {
  readonly gate: AccessGate;
  readonly guard: AdminGuard;
  readonly policies: IndexPolicies;
  readonly connections: { readonly listen: Connections; readonly admin: Connections };
  readonly patience: Patience;
  readonly events: Events;
  readonly logger: Logger;
}

/** Prefixes of keys that a running proxy reloads; all others need a restart. */
const LIVE_KEYS = [
  'listen.tls.',
  'listen.hosts',
  'admin.tls.',
  'admin.hosts',
  'admin.token',
  'index.v1',
  'index.v2',
  'index.bootLayer',
  'index.prefetch',
  'index.minLayerBytes',
  'index.platforms',
  'index.holdMs',
  'index.lazyClients',
  'index.rules',
  'access.kind',
  'access.htpasswdFile',
  'access.challenge',
  'access.verdictSeconds',
  'access.staleSeconds',
  'access.cidrs',
  'limits.requestsPerSecond',
  'limits.maxConnections',
  'shutdown.',
  'log.level',
];

/** The part of the configuration that can be replaced while the proxy runs, with the files that it names. */
export class LiveSettings {
  readonly #deps: LiveSettingsDeps;
  /** The configuration of the start: what needs a restart is as it says. */
  readonly #started: Config;
  #config: Config;

  constructor(config: Config, deps: LiveSettingsDeps) {
    this.#started = config;
    this.#config = config;
    this.#deps = deps;
  }

  /** The current configuration. */
  get config(): Config {
    return this.#config;
  }

  /**
   * Applies the reloadable part of `next`, all of it or nothing. Reads files again even if their names have
   * not changed. Connections stay.
   * @returns the keys whose values differ from those of the start, and need a restart
   * @throws SpandrelError CONFIG_INVALID; nothing has changed then
   */
  async replace(next: Config, readFile: ReadFile): Promise<readonly ConfigPath[]> {
    const { gate, guard, policies, connections, patience, events, logger } = this.#deps;
    for (const listener of ['listen', 'admin'] as const) {
      const [before, after] = [this.#config[listener].tls, next[listener].tls];
      if ((before.cert === undefined) !== (after.cert === undefined))
        throw new SpandrelError('CONFIG_INVALID', `${listener}.tls: turning TLS on or off needs a restart`);
      const isLeftOut = before.clientCa !== undefined && after.clientCa === undefined;
      const hasToken = next.admin.token !== undefined || next.admin.tokenFile !== undefined;
      if (isLeftOut && !(listener === 'admin' && hasToken))
        throw new SpandrelError(
          'CONFIG_INVALID',
          `${listener}.tls.clientCa is left out: clients would need no certificate, which needs a restart`,
        );
    }
    const rules = await createAccessRules(next, { patience, events, readFile });
    const adminRules = await createAdminRules(next, readFile);
    const tls = {
      listen: await readTlsMaterial('listen', next.listen.tls, readFile),
      admin: await readTlsMaterial('admin', next.admin.tls, readFile),
    };
    for (const listener of ['listen', 'admin'] as const) {
      connections[listener].replaceLimits(next.limits);
      connections[listener].replaceTls(tls[listener]);
    }
    gate.replace(rules);
    guard.replace(adminRules);
    policies.replace(generalPolicy(next), next.index.rules ?? []);
    logger.level = next.log.level;
    this.#config = next;
    return changedKeys(this.#started, next).filter(needsRestart);
  }
}

/** Whether a change of this key, or of the file that it names, takes effect after a restart only. */
export function needsRestart(path: ConfigPath): boolean {
  return !LIVE_KEYS.some((key) => path.startsWith(key));
}

/** Without a list of platforms, nodes are assumed to have the platform of the proxy's machine. */
export function generalPolicy({ index }: Config): IndexPolicy {
  const { v1, v2, v2Form, bootLayer, bootLayerBytes, prefetch, minLayerBytes, holdMs, lazyClients } = index;
  const platforms = index.platforms ?? [containerPlatform(arch())];
  const boot = { bootLayer, bootLayerBytes, prefetch };
  return { v1, v2, v2Form, ...boot, minLayerBytes, platforms, holdMs, lazyClients };
}
