import { expect, it } from 'vitest';

import { describeMode } from '../../src/tar/describe-mode.ts';
import { runProgram } from '../helpers/programs.ts';

it.each([0o755, 0o644, 0o4755, 0o1777, 0o7, 0, 0o7777, 0o100640, 0o40711])(
  'the permissions of mode %i are those that stat(1) of Python prints',
  async (mode) => {
    const script = `import stat; print(format(stat.S_IMODE(${mode}), '04o'))`;
    const expected = (await runProgram('python3', ['-c', script])).toString().trim();
    expect(describeMode(mode)).toEqual({ mode, modeText: expected });
  },
);
