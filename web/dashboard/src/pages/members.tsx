// Members, their roles, and invites.
import { useInfiniteQuery, useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useQueryFields } from '../address';
import { Refusal, api, ask, type Schemas } from '../api';
import { ifMatch } from '../changes';
import { holds, invites, membersFound, own, queries, session } from '../queries';
import { RecoveryLink } from './recovery';
import { Actions, Choice, Confirm, Copy, Dialog, Empty, Failure, Field, Form, Heading, Loading, More, Notice, SearchField, ShownOnce, Table, Text, Time, Trouble } from '../ui';

const ROLES: [Schemas['Role'], string][] = [
  ['viewer', 'Viewer: reads'],
  ['developer', 'Developer: resources, keys, audit'],
  ['admin', 'Admin: everything but owners'],
  ['owner', 'Owner: everything'],
];

export function MembersPage() {
  const { data: me } = useQuery(session);
  const [{ search, role: named }, set] = useQueryFields('search', 'role');
  const role = ROLES.find(([it]) => it === named)?.[0] ?? '';
  const list = useInfiniteQuery(membersFound({ ...(search ? { search } : {}), ...(role ? { role } : {}) }));
  const rows = list.data?.pages.flatMap((it) => it.items) ?? [];
  const open = useQuery(invites());
  const [inviting, setInviting] = useState(false);
  const [invited, setInvited] = useState<Schemas['Invite']>();
  const [removing, setRemoving] = useState<Schemas['Member']>();
  const [recovering, setRecovering] = useState<Schemas['Member']>();
  const may = holds(me, 'members:write');
  const owner = me?.role === 'owner';
  const [changing, setChanging] = useState<{ of: Schemas['Member']; role: Schemas['Role'] }>();
  const [withdrawing, setWithdrawing] = useState<Schemas['Invite']>();
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
        <div className="toolbar" role="search">
          <SearchField value={search} placeholder="Part of a name or e-mail address, or id" onSearch={(text) => { set({ search: text }, true); }} />
          <Choice label="Role" value={role} onChange={(value) => { set({ role: value }); }} options={[['', 'Any'], ...ROLES.map(([it]): [string, string] => [it, it])]} />
        </div>
        <Failure of={[list]} />
        {list.isPending && <Loading />}
        {list.isSuccess && rows.length === 0 && <Empty title="No member fits the search" />}
        {rows.length > 0 && (
          <Table label="Table of members" columns={['Name', 'E-mail', 'Role', 'Last seen', 'Joined']} actions>
            {rows.map((it) => {
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
                        onChange={(event) => setChanging({ of: it, role: event.target.value as Schemas['Role'] })}
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
                        {owner && it.userId !== me.user.id && (
                          <button type="button" onClick={() => setRecovering(it)}>
                            Recovery link
                          </button>
                        )}
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
        )}
        <More of={list} what="Older members" />
      </section>
      <section className="card" aria-label="Invites">
        <h2>Open invites</h2>
        <Failure of={[open]} />
        {open.isPending && <Loading rows={1} />}
        {open.data?.length === 0 && <Empty title="No open invites" />}
        {open.data?.map((it) => (
          <div key={it.id} className="heading">
            <div>
              {it.email} as {it.role}
              <div className="quiet small">
                invited by {it.invitedBy.name}, ends <Time at={it.expiresAt} />
              </div>
            </div>
            {may && (
              <button type="button" onClick={() => setWithdrawing(it)}>
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
            void queries.invalidateQueries({ queryKey: own('invites') });
          }}
        />
      )}
      {invited?.link && (
        <ShownOnce title={`Invite ${invited.email}`} what="the link" onClose={() => setInvited(undefined)}>
          <Notice tone="warn">No e-mail is sent. Hand this link over yourself; it is shown once, works once, and for seven days.</Notice>
          <Copy label="Invite link" text={invited.link} />
        </ShownOnce>
      )}
      {changing && (
        <Confirm
          title={`Make ${changing.of.name} ${changing.role === 'admin' || changing.role === 'owner' ? 'an' : 'a'} ${changing.role}`}
          action="Change the role"
          harmless
          act={() => ask(api.PATCH('/members/{id}', { params: { path: { id: changing.of.id }, header: ifMatch(changing.of) }, body: { role: changing.role } }))}
          onClose={() => setChanging(undefined)}
        >
          <p>
            {changing.of.name} is {changing.of.role} now, and may do what {changing.role} may from then on. It counts at once, in open sessions too.
          </p>
          {changing.role === 'owner' && <p>An owner may do everything, and may take the role from you.</p>}
          {changing.of.userId === me?.user.id && <p>This is your own role: another owner or admin has to give it back.</p>}
        </Confirm>
      )}
      {withdrawing && (
        <Confirm
          title={`Withdraw the invite of ${withdrawing.email}`}
          action="Withdraw"
          act={() => ask(api.DELETE('/invites/{id}', { params: { path: { id: withdrawing.id } } }))}
          onClose={() => setWithdrawing(undefined)}
        >
          <p>Its link stops working at once. Another invite makes another link.</p>
        </Confirm>
      )}
      {recovering && <RecoveryLink of={recovering} onClose={() => setRecovering(undefined)} />}
      {removing && (
        <Confirm
          title={`Remove ${removing.name}`}
          action="Remove"
          act={() => ask(api.DELETE('/members/{id}', { params: { path: { id: removing.id } } }))}
          onDone={() => void queries.invalidateQueries({ queryKey: own('members') })}
          onClose={() => setRemoving(undefined)}
        >
          <p>Their sessions in this organization end at once, and invites that they made stop working. Keys that they minted go on working; look through them.</p>
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
        <Text label="E-mail" type="email" value={email} onChange={setEmail} required error={invite.error instanceof Refusal ? invite.error.field('email') : undefined} />
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
