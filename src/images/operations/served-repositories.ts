import type { RegistryClient } from '../../upstream/registry-client.ts';
import type { ProofTable } from '../proofs/proof-table.ts';
import { targetKey } from '../../upstream/target.ts';

/** The repositories of which something has been served within the last month, across restarts. */
export class ServedRepositories {
  readonly #table: ProofTable;

  constructor(table: ProofTable) {
    this.#table = table;
  }

  /** Those of an upstream as it calls them, at most `limit`, from the first behind `after` on. Costs a look into the table for each. */
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
    // Names of proofs go on with a space and a digest.
    const from = after === '' ? start : `${targetKey({ client, repository: after })}!`;
    const name = this.#table.firstBehind(from);
    return name?.startsWith(start) === true ? name.slice(start.length).split(' ')[0] : undefined;
  }
}
