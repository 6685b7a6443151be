/** How clients connect to a server: containerd uses TLS with HTTP/1.1, the snapshotter TLS with HTTP/2. */
export const WIRES = ['http', 'tls', 'tls h2'] as const;

export type Wire = (typeof WIRES)[number];

/** @throws Error for an unknown name */
export function parseWire(text: string): Wire {
  const found = WIRES.find((wire) => wire === text);
  if (found === undefined) throw new Error(`--wires takes some of: ${WIRES.join(', ')}`);
  return found;
}
