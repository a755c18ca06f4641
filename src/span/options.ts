/** What the configuration says of the spans of a protocol. */
import { defaultRedactedQueryKeys } from '../config/http.ts';

/** `http` of the configuration has this shape. */
export interface HttpSpanOptions {
  /** Query parameters whose values are replaced in url.full and url.query. */
  readonly redactQueryKeys: readonly string[];
  /** Patterns that are shown instead of the paths that match them. */
  readonly redactPaths: readonly string[];
  /** Fields that become http.request.header.NAME; credentials never do, whatever stands here. */
  readonly captureRequestHeaders: readonly string[];
  readonly captureResponseHeaders: readonly string[];
  /** Patterns of http.route: `/orders/{id}`, `/orders/:id`, `/static/*`. */
  readonly routes: readonly string[];
  /** Learn the routes of other paths. */
  readonly learnRoutes: boolean;
}

export const defaultHttpSpanOptions: HttpSpanOptions = {
  redactQueryKeys: defaultRedactedQueryKeys,
  redactPaths: [],
  captureRequestHeaders: [],
  captureResponseHeaders: [],
  routes: [],
  learnRoutes: false,
};

/** `sql` of the configuration has these keys. */
export interface SqlSpanOptions {
  /** Statements that took less become no spans, unless they failed; 0: all become spans. */
  readonly minDurationUs: number;
  /** Say db.response.returned_rows, which the semantic conventions call opt-in. */
  readonly captureReturnedRows: boolean;
  /** Say db.operation.name and db.collection.name, which the semantic conventions do not want to be taken from a text. */
  readonly captureOperationAndCollection: boolean;
}

export const defaultSqlSpanOptions: SqlSpanOptions = {
  minDurationUs: 0,
  captureReturnedRows: true,
  captureOperationAndCollection: false,
};
