/** An Amazon ECR registry, as its host name describes it. */
export type EcrHost =
  | {
      readonly kind: 'private';
      /** Twelve digits. */
      readonly account: string;
      readonly region: string;
      readonly isFips: boolean;
      readonly isDualStack: boolean;
    }
  | { readonly kind: 'public' };

// All partitions: commercial, China, European sovereign cloud, and the isolated ones.
const PRIVATE =
  /^(\d{12})\.dkr([.-])ecr(-fips)?\.([a-z0-9][a-z0-9-]*)\.(amazonaws\.(?:com(?:\.cn)?|eu)|on\.(?:aws|amazonwebservices\.(?:com\.cn|eu))|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$/;
const PUBLIC: ReadonlySet<string> = new Set(['public.ecr.aws', 'ecr-public.aws.com']);

/**
 * Host names of S3, where ECR stores layers:
 * `[<bucket>.][<endpoint>.]s3[-fips][.dualstack][.<region>][.vpce].<partition>`. In a VPC they may resolve to
 * private addresses. The pattern is strict, because "begins with s3" would also match load balancers: `<any
 * name>.<region>.elb.amazonaws.com`.
 */
export const S3_HOST =
  /(^|\.)s3(-fips)?(\.dualstack)?([.-][a-z]{2,}(-[a-z]+)+-\d+(\.vpce)?)?\.(amazonaws\.(?:com(?:\.cn)?|eu)|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$/;

/**
 * Parses a host name such as `123456789012.dkr.ecr.eu-west-1.amazonaws.com`; `undefined` for any other host.
 * Ignores a port.
 * @see amazon-ecr-credential-helper, ecr-login/api/client.go (the pattern)
 */
export function parseEcrHost(host: string): EcrHost | undefined {
  const hostname = host.toLowerCase().replace(/:\d+$/, '');
  if (PUBLIC.has(hostname)) return { kind: 'public' };
  const [, account, separator, fips, region] = PRIVATE.exec(hostname) ?? [];
  if (account === undefined || region === undefined) return undefined;
  return { kind: 'private', account, region, isFips: fips !== undefined, isDualStack: separator === '-' };
}
