// @vitest-environment jsdom
import { QueryClientProvider } from '@tanstack/react-query';
import { RouterContextProvider, createMemoryHistory, createRootRoute, createRouter } from '@tanstack/react-router';
import { cleanup, fireEvent, render, screen, waitFor } from '@testing-library/react';
import { useState, type ReactNode } from 'react';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { ApiKey } from '../api';

const fetched = vi.hoisted(() => {
  const it = vi.fn<typeof fetch>();
  globalThis.fetch = it; // Before the client takes hold of it.
  return it;
});
const { queries, session, scopes } = await import('../queries');
const { ScopePicker, SecretDialog } = await import('./developer');
const { Confirm } = await import('../ui');

// jsdom has no modal dialogs yet.
Object.assign(HTMLDialogElement.prototype, {
  showModal(this: HTMLDialogElement) {
    this.open = true;
  },
  close(this: HTMLDialogElement) {
    this.open = false;
  },
});

const json = (data: unknown) => new Response(JSON.stringify({ success: true, data }), { headers: { 'content-type': 'application/json' } });
const router = createRouter({ routeTree: createRootRoute(), history: createMemoryHistory() });
const within = (children: ReactNode) =>
  render(
    <QueryClientProvider client={queries}>
      <RouterContextProvider router={router}>{children}</RouterContextProvider>
    </QueryClientProvider>,
  );

beforeEach(() => {
  const scope = (name: string, holders: string[]) => ({ scope: name, description: `Opens ${name}.`, holders, operations: [] });
  queries.setQueryData(session.queryKey, { organization: { id: 'org_1' }, scopes: ['agents:read', 'agents:write', 'billing:read'] } as never);
  queries.setQueryData(scopes.queryKey, [
    scope('agents:read', ['secret_key', 'role']),
    scope('agents:write', ['secret_key', 'role']),
    scope('billing:read', ['secret_key', 'role']),
    scope('billing:write', ['secret_key', 'role']),
    scope('members:read', ['role']),
  ] as never);
});
afterEach(() => {
  cleanup();
  queries.clear();
});

function Picker() {
  const [chosen, setChosen] = useState<string[]>([]);
  return (
    <>
      <ScopePicker chosen={chosen} onChange={setChosen} />
      <output>{chosen.join(' ')}</output>
    </>
  );
}

it('offers only what a key may hold and the member may grant, with the reason for the rest', () => {
  within(<Picker />);
  const box = (name: string) => screen.queryByRole<HTMLInputElement>('checkbox', { name: new RegExp(`^${name}`) });
  expect(box('members:read')).toBeNull();
  expect(box('billing:write')?.disabled).toBe(true);
  expect(document.getElementById('about-billing:write')?.textContent).toContain('Your role does not hold it');
  expect(document.getElementById('about-agents:read')?.textContent).not.toContain('does not hold');
  const chosen = () => document.querySelector('output')?.textContent;
  fireEvent.click(screen.getByRole('button', { name: 'Read everything' }));
  expect(chosen()).toBe('agents:read billing:read');
  fireEvent.click(box('agents:read') as HTMLElement);
  expect(chosen()).toBe('billing:read');
  fireEvent.click(screen.getByRole('button', { name: 'Nothing' }));
  expect(chosen()).toBe('');
});

it('waits for the first call with this secret, says how it ended, and is not dismissed by accident', async () => {
  const secret = (createdAt: string, lastCall: object | null) => ({ last4: 'abcd', createdAt, expiresAt: null, lastCall });
  const refused = { at: '2026-11-24T12:00:03Z', operationId: 'createAgent', outcome: 'insufficient_scope' };
  const old = secret('2026-11-24T09:00:00Z', refused);
  let mine = secret('2026-11-24T12:00:00Z', null);
  fetched.mockImplementation(() => Promise.resolve(json({ id: 'key_1', secrets: [mine, old] })));
  const closed = vi.fn();
  const made = { id: 'key_1', name: 'first', secret: 'flowyte_sk_live_x', scopes: ['chat:write'], secrets: [mine, old] } as unknown as ApiKey;
  within(<SecretDialog made={made} onClose={closed} />);
  await screen.findByText('Waiting for the first call with this secret…');
  expect(screen.getByLabelText('curl command').textContent).toContain('/api/v1/whoami -H "Authorization: Bearer flowyte_sk_live_x"');
  const dialog = screen.getByRole<HTMLDialogElement>('dialog');
  fireEvent(dialog, new Event('cancel', { cancelable: true }));
  fireEvent.click(dialog);
  // A browser that closes it all the same finds it open again.
  dialog.close();
  fireEvent(dialog, new Event('close'));
  expect(dialog.open).toBe(true);
  expect(closed).not.toHaveBeenCalled();
  expect(screen.queryByText(/Received/)).toBeNull();
  mine = secret('2026-11-24T12:00:00Z', refused);
  await waitFor(() => expect(screen.getByText(/Received/).textContent).toBe('Received: createAgent, refused: insufficient_scope'), { timeout: 4000 });
  fireEvent.click(screen.getByRole('button', { name: 'I have copied it' }));
  expect(closed).toHaveBeenCalledOnce();
});

it('does what can’t be undone only when the name was typed', async () => {
  const [act, done, closed] = [vi.fn(() => Promise.resolve('gone')), vi.fn(), vi.fn()];
  within(
    <Confirm title="Revoke" action="Revoke for good" type="first" act={act} onDone={done} onClose={closed}>
      Really?
    </Confirm>,
  );
  const button = screen.getByRole<HTMLButtonElement>('button', { name: 'Revoke for good' });
  expect(button.disabled).toBe(true);
  fireEvent.change(screen.getByLabelText('Type first to go on'), { target: { value: 'First' } });
  expect(button.disabled).toBe(true);
  fireEvent.change(screen.getByLabelText('Type first to go on'), { target: { value: 'first' } });
  fireEvent.click(button);
  await waitFor(() => expect(done).toHaveBeenCalledOnce());
  expect(done.mock.calls[0]?.[0]).toBe('gone');
  expect(act).toHaveBeenCalledOnce();
  expect(closed).toHaveBeenCalledOnce();
});

it('takes a name as it is shown', () => {
  const act = vi.fn(() => Promise.resolve('gone'));
  within(
    <Confirm title="Revoke" action="Revoke for good" type={'two  spaces'} act={act} onClose={vi.fn()}>
      Really?
    </Confirm>,
  );
  fireEvent.change(screen.getByLabelText('Type two spaces to go on'), { target: { value: 'two spaces' } });
  expect(screen.getByRole<HTMLButtonElement>('button', { name: 'Revoke for good' }).disabled).toBe(false);
});
