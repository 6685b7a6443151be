/** List prices of AWS, us-east-1, in dollars, from memory in November 2026: docs/scaling.md has the pages. */
export const PRICES = {
  date: '2026-11',
  /** c7gn.2xlarge: 8 vCPUs, 16 GiB, 25 Gbit/s, on demand. */
  replicaHour: 0.4992,
  s3Get: 0.0004 / 1000,
  /** Both directions. */
  gigabyteBetweenZones: 0.02,
  /** Of a Network Load Balancer: one NLCU an hour. */
  gigabyteOfBalancer: 0.006,
} as const;

/** Of three zones; nodes take any replica. */
const SHARE_TO_OTHER_ZONES = 2 / 3;

/** Of the bytes that nodes and replicas receive from replicas in other zones. */
export function priceBetweenZones(bytes: number): number {
  return (bytes / 1e9) * SHARE_TO_OTHER_ZONES * PRICES.gigabyteBetweenZones;
}
