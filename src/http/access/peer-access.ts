import type { IncomingHttpHeaders } from 'node:http';

import { SpandrelError } from '../../core/errors.ts';
import { PeerSeal } from '../../replicas/peer-seal.ts';

export interface PeerAccessDeps {
  readonly seal: PeerSeal;
  /** Id of this replica. */
  readonly self: () => string;
}

/** A request of another replica. */
export interface AdmittedPeer {
  readonly id: string;
  /** Shows the other replica that this one is a replica too. */
  readonly proof: string;
}

/** Admits requests that another replica has signed, instead of the rules for clients. */
export class PeerAccess {
  readonly #deps: PeerAccessDeps;

  constructor(deps: PeerAccessDeps) {
    this.#deps = deps;
  }

  /**
   * The replica; `undefined` for requests of clients.
   * @param url path and query, as on the wire
   * @throws SpandrelError DENIED for a wrong signature, and one for another replica or time
   */
  admit(
    method: string,
    url: string,
    { authorization, range }: IncomingHttpHeaders,
  ): AdmittedPeer | undefined {
    if (!PeerSeal.isSigned(authorization)) return undefined;
    const { seal, self } = this.#deps;
    const id = seal.verifyRequest(authorization, { method, url, range }, self());
    if (id === undefined)
      throw new SpandrelError(
        'DENIED',
        'the signature of this replica is not valid: compare replica.token, replica.url and the clocks',
      );
    return { id, proof: seal.proveResponse(authorization) };
  }
}
