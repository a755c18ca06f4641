const END_OF_VALUE = /[,\n]/g;

/** The whole records of comma-separated values with double quotes, as PostgreSQL's csvlog has them; a record that is not whole yet is left out. */
export function csvRecords(text: string): string[][] {
  const records: string[][] = [];
  let record: string[] = [];
  let at = 0;
  while (at < text.length) {
    let value: string;
    if (text[at] === '"') {
      let end = at + 1;
      // Two quotes stand for one.
      for (; ; end += 2) {
        end = text.indexOf('"', end);
        if (end === -1) return records;
        if (text[end + 1] !== '"') break;
      }
      value = text.slice(at + 1, end).replaceAll('""', '"');
      at = end + 1;
    } else {
      END_OF_VALUE.lastIndex = at;
      const end = END_OF_VALUE.exec(text)?.index;
      if (end === undefined) return records;
      value = text.slice(at, end);
      at = end;
    }
    record.push(value);
    if (text[at] === '\n') {
      records.push(record);
      record = [];
    } else if (text[at] !== ',') {
      return records;
    }
    at += 1;
  }
  return records;
}
