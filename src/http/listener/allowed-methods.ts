import type { FastifyInstance } from 'fastify';

/** Stands for the target of `OPTIONS *`; no route has this path. */
export const WHOLE_SERVER = '/*';

/** Which methods each route of a server has, for `Allow`. */
export class AllowedMethods {
  readonly #routes: { readonly methods: readonly string[]; readonly path: RegExp }[] = [];

  /** Learns the routes that are added to `server` from now on. Their parameters must be whole segments. */
  constructor(server: FastifyInstance) {
    server.addHook('onRoute', ({ method, url }) => {
      const path = new RegExp(`^${url.replaceAll('.', '\\.').replace(/:\w+/g, '[^/]+')}$`);
      this.#routes.push({ methods: [method].flat(), path });
    });
  }

  /** The value of `Allow` for a path without its query; `undefined` if it is no route. */
  of(path: string): string | undefined {
    const matching = this.#routes.filter((route) => path === WHOLE_SERVER || route.path.test(path));
    const methods = matching.flatMap((route) => route.methods);
    return methods.length === 0 ? undefined : [...new Set(methods), 'OPTIONS'].join(', ');
  }
}
