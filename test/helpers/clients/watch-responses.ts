import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { IncomingMessage, ServerResponse } from 'node:http';

import { cleanup } from '../cleanup.ts';

const CHANNEL = 'http.server.request.start';

/**
 * What servers in this process send to requests that name `host`, from now on, in the order of the requests.
 */
export function watchResponses(host: string): readonly ServerResponse[] {
  const responses: ServerResponse[] = [];
  const note = (event: unknown): void => {
    const { request, response } = event as { request: IncomingMessage; response: ServerResponse };
    if (request.headers.host === host) responses.push(response);
  };
  subscribe(CHANNEL, note);
  cleanup.defer(() => void unsubscribe(CHANNEL, note));
  return responses;
}
