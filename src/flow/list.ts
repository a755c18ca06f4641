/** What a list needs of its members: a member is in one list at most. */
export interface Linked<T extends Linked<T>> {
  previous: T | undefined;
  next: T | undefined;
  list: LinkedList<T> | undefined;
}

/** A doubly linked list through its members: moving one costs no allocation. */
export class LinkedList<T extends Linked<T>> {
  first: T | undefined = undefined;
  last: T | undefined = undefined;
  size = 0;

  /** Appends; takes the member out of the list that it is in. */
  push(member: T): void {
    member.list?.remove(member);
    member.list = this;
    member.previous = this.last;
    member.next = undefined;
    if (this.last === undefined) this.first = member;
    else this.last.next = member;
    this.last = member;
    this.size++;
  }

  /** The member must be in this list. */
  remove(member: T): void {
    if (member.previous === undefined) this.first = member.next;
    else member.previous.next = member.next;
    if (member.next === undefined) this.last = member.previous;
    else member.next.previous = member.previous;
    member.previous = undefined;
    member.next = undefined;
    member.list = undefined;
    this.size--;
  }
}
