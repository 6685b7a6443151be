import { AsyncLocalStorage } from 'node:async_hooks';

const scope = new AsyncLocalStorage<string>();

/** Runs `work`. Every log line that it writes, or what it starts writes, has this request id. */
export function runForRequest<T>(requestId: string, work: () => T): T {
  return scope.run(requestId, work);
}

/** Id of the request that this code runs for; `undefined` outside of requests. */
export function currentRequestId(): string | undefined {
  return scope.getStore();
}
