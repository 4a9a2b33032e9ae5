import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startApogee } from './apogee.js';

let node;
before(async () => { node = await startApogee(); });
after(() => node?.stop());

test('an order arrives', async () => {
  await node.apogee('produce', 'orders', 'one coffee', '--key', 'table-7');
  const got = await node.apogee('consume', 'orders', '--max', '1');
  assert.deepEqual(got.map(({ body, keys }) => ({ body, keys })), [{ body: 'one coffee', keys: ['table-7'] }]);
});
