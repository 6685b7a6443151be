import type { RegistryClient } from '../../upstream/registry-client.ts';
import type { ProofTable } from '../proofs/proof-table.ts';
import { targetKey } from '../../upstream/target.ts';

/** The repositories that clients were served from within the last month, across restarts. */
export class ServedRepositories {
  readonly #table: ProofTable;

  constructor(table: ProofTable) {
    this.#table = table;
  }

  /**
   * Repositories of an upstream, at most `limit`, the first after `after` in bytewise order. Costs one lookup
   * each.
   */
  list(client: RegistryClient, { after, limit }: { after: string; limit: number }): string[] {
    const found: string[] = [];
    let last = after;
    while (found.length < limit) {
      const repository = this.#next(client, last);
      if (repository === undefined) break;
      found.push(repository);
      last = repository;
    }
    return found;
  }

  #next(client: RegistryClient, after: string): string | undefined {
    const start = targetKey({ client, repository: '' });
    // In names of proofs, a space and a digest follow the repository.
    const from = after === '' ? start : `${targetKey({ client, repository: after })}!`;
    const name = this.#table.firstAfter(from);
    return name?.startsWith(start) === true ? name.slice(start.length).split(' ')[0] : undefined;
  }
}
