import type { RegistryClient } from './registry-client.ts';

/** A repository of an upstream. */
export interface Target {
  readonly client: RegistryClient;
  /** As {@link RegistryClient.repositoryName}: in full, without the `repositoryPrefix` of the upstream. */
  readonly repository: string;
}

/** One key for one repository of one upstream. */
export function targetKey(target: Target): string {
  return `${target.client.name}/${target.client.upstreamName(target.repository)}`;
}
