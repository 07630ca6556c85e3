// Members, their roles, and invites.
import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Refusal, api, ask, type Schemas } from '../api';
import { holds, invites, members, queries, session } from '../queries';
import { Actions, Confirm, Copied, Copy, Dialog, Empty, Field, Form, Heading, Loading, Notice, Table, Text, Time, Trouble } from '../ui';

const ROLES: [Schemas['Role'], string][] = [
  ['viewer', 'Viewer: reads'],
  ['developer', 'Developer: resources, keys, audit'],
  ['admin', 'Admin: everything but owners'],
  ['owner', 'Owner: everything'],
];

export function MembersPage() {
  const { data: me } = useQuery(session);
  const list = useQuery(members);
  const open = useQuery(invites);
  const [inviting, setInviting] = useState(false);
  const [invited, setInvited] = useState<Schemas['Invite']>();
  const [removing, setRemoving] = useState<Schemas['Member']>();
  const may = holds(me, 'members:write');
  const owner = me?.role === 'owner';
  const change = useMutation({
    mutationFn: ({ id, role }: { id: string; role: Schemas['Role'] }) => ask(api.PATCH('/members/{id}', { params: { path: { id } }, body: { role } })),
    onSettled: () => void queries.invalidateQueries({ queryKey: ['members'] }),
  });
  const withdraw = useMutation({
    mutationFn: (id: string) => ask(api.DELETE('/invites/{id}', { params: { path: { id } } })),
    onSuccess: () => void queries.invalidateQueries({ queryKey: ['invites'] }),
  });
  return (
    <>
      <Heading title="Members">
        {may && (
          <button type="button" className="primary" onClick={() => setInviting(true)}>
            Invite somebody
          </button>
        )}
      </Heading>
      <section className="card" aria-label="Members">
        <Trouble error={list.error ?? change.error} />
        {list.isPending && <Loading />}
        <Table label="Table of members" columns={['Name', 'E-mail', 'Role', 'Last seen', 'Joined']} actions>
          {list.data?.map((it) => {
            const mayChange = may && (owner || it.role !== 'owner');
            return (
              <tr key={it.id}>
                <td className="name">
                  {it.name} {it.userId === me?.user.id && <span className="quiet">(you)</span>}
                </td>
                <td>{it.email}</td>
                <td>
                  {mayChange ? (
                    <select
                      aria-label={`Role of ${it.name}`}
                      value={it.role}
                      disabled={change.isPending}
                      onChange={(event) => change.mutate({ id: it.id, role: event.target.value as Schemas['Role'] })}
                    >
                      {ROLES.filter(([role]) => owner || role !== 'owner').map(([role]) => (
                        <option key={role} value={role}>
                          {role}
                        </option>
                      ))}
                    </select>
                  ) : (
                    it.role
                  )}
                </td>
                <td>
                  <Time at={it.lastSeenAt} />
                </td>
                <td>
                  <Time at={it.joinedAt} />
                </td>
                <td>
                  {mayChange && (
                    <div className="actions">
                      <button type="button" onClick={() => setRemoving(it)}>
                        Remove
                      </button>
                    </div>
                  )}
                </td>
              </tr>
            );
          })}
        </Table>
      </section>
      <section className="card" aria-label="Invites">
        <h2>Open invites</h2>
        <Trouble error={open.error ?? withdraw.error} />
        {open.isPending && <Loading rows={1} />}
        {open.data?.items.length === 0 && <Empty title="No open invites" />}
        {open.data?.items.map((it) => (
          <div key={it.id} className="heading">
            <div>
              {it.email} as {it.role}
              <div className="quiet small">
                ends <Time at={it.expiresAt} />
              </div>
            </div>
            {may && (
              <button type="button" disabled={withdraw.isPending} onClick={() => withdraw.mutate(it.id)}>
                Withdraw
              </button>
            )}
          </div>
        ))}
      </section>
      {inviting && (
        <InviteDialog
          owner={owner}
          onClose={() => setInviting(false)}
          onInvited={(made) => {
            setInviting(false);
            setInvited(made);
            void queries.invalidateQueries({ queryKey: ['invites'] });
          }}
        />
      )}
      {invited?.link && (
        <Dialog title={`Invite ${invited.email}`} onClose={() => setInvited(undefined)} firm wide>
          <Notice tone="warn">No e-mail is sent. Hand this link over yourself; it is shown once, works once, and for seven days.</Notice>
          <Copy label="Invite link" text={invited.link} />
          <Copied onClose={() => setInvited(undefined)} />
        </Dialog>
      )}
      {removing && (
        <Confirm
          title={`Remove ${removing.name}`}
          action="Remove"
          act={() => ask(api.DELETE('/members/{id}', { params: { path: { id: removing.id } } }))}
          onDone={() => void queries.invalidateQueries({ queryKey: ['members'] })}
          onClose={() => setRemoving(undefined)}
        >
          <p>Their sessions in this organization end at once. Keys that they minted go on working; look through them.</p>
        </Confirm>
      )}
    </>
  );
}

function InviteDialog({ owner, onClose, onInvited }: { owner: boolean; onClose: () => void; onInvited: (made: Schemas['Invite']) => void }) {
  const [email, setEmail] = useState('');
  const [role, setRole] = useState<Schemas['Role']>('developer');
  const invite = useMutation({ mutationFn: () => ask(api.POST('/invites', { body: { email, role } })), onSuccess: onInvited });
  return (
    <Dialog title="Invite somebody" onClose={onClose}>
      <Form busy={invite.isPending} onSubmit={() => invite.mutate()}>
        <Text label="E-mail" type="email" value={email} onChange={setEmail} required autoFocus error={invite.error instanceof Refusal ? invite.error.field('email') : undefined} />
        <Field label="Role">
          {(props) => (
            <select {...props} value={role} onChange={(event) => setRole(event.target.value as Schemas['Role'])}>
              {ROLES.filter(([name]) => owner || name !== 'owner').map(([name, text]) => (
                <option key={name} value={name}>
                  {text}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Trouble error={invite.error} />
        <Actions action="Invite" busy={invite.isPending} onClose={onClose} />
      </Form>
    </Dialog>
  );
}
