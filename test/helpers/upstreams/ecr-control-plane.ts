import { ScriptedUpstream, type SeenRequest } from './scripted-upstream.ts';
import { noteSecret } from '../secrets.ts';

/** What one call of GetAuthorizationToken gets instead of a token. */
export interface ControlPlaneFault {
  readonly status: number;
  /** Name of the AWS error. */
  readonly type: string;
}

/**
 * GetAuthorizationToken of ECR and ECR Public, whose tokens say who asked and how often: `AWS:<access key
 * id>-<number>`.
 */
export class EcrControlPlane implements AsyncDisposable {
  readonly #server: ScriptedUpstream;
  /** The next calls fail with these. */
  faults: ControlPlaneFault[] = [];
  lifetimeMs = 12 * 3600_000;
  /** Milliseconds of the epoch. */
  now: () => number = Date.now;
  #tokens = 0;

  private constructor(server: ScriptedUpstream) {
    this.#server = server;
  }

  static async start(): Promise<EcrControlPlane> {
    const server: ScriptedUpstream = await ScriptedUpstream.start((request, response) => {
      const { status, body } = plane.#answer(request);
      response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' }).end(JSON.stringify(body));
    });
    const plane: EcrControlPlane = new EcrControlPlane(server);
    return plane;
  }

  get url(): string {
    return this.#server.url;
  }

  get requests(): readonly SeenRequest[] {
    return this.#server.requests;
  }

  #answer({ headers }: SeenRequest): { status: number; body: object } {
    const fault = this.faults.shift();
    if (fault !== undefined)
      return { status: fault.status, body: { __type: fault.type, message: 'as the test wants it' } };
    const [, accessKey = ''] = /Credential=([^/]+)\//.exec(headers.authorization ?? '') ?? [];
    const data = {
      authorizationToken: tokenOf(accessKey, ++this.#tokens),
      expiresAt: (this.now() + this.lifetimeMs) / 1000,
    };
    const isPublic = String(headers['x-amz-target']).startsWith('SpencerFrontendService');
    return { status: 200, body: { authorizationData: isPublic ? data : [data] } };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}

/** The `count`th token, when `accessKey` asked for it. */
export function tokenOf(accessKey: string, count: number): string {
  const password = noteSecret('password of an ECR token', `${accessKey}-${count}`);
  return Buffer.from(`AWS:${password}`).toString('base64');
}
