const STOP_SIGNALS = ['SIGTERM', 'SIGINT'] as const;
const SAME_ORDER_MS = 1000;

/**
 * Resolves with the first signal to stop. The same signal often arrives twice, from a terminal and from npm,
 * or from systemd and from a script. A later one is intended: it ends the process at once.
 */
export function stopSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let firstAtMs: number | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    firstAtMs ??= performance.now();
    resolve(signal);
    if (performance.now() - firstAtMs < SAME_ORDER_MS) return;
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  };
  for (const signal of STOP_SIGNALS) process.on(signal, onSignal);
  return promise;
}
