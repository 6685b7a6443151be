import type { FastifyInstance } from 'fastify';

/** A path that is no route and stands for `OPTIONS *`. */
export const WHOLE_SERVER = '/*';

/** The routes of a server, for who comes with another method. */
export class AllowedMethods {
  readonly #routes: { readonly methods: readonly string[]; readonly path: RegExp }[] = [];

  /** Notes the routes that `server` is given from now on, whose patterns have nothing but whole segments as parameters. */
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
