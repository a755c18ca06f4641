import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import org.postgresql.PGConnection;

/**
 * PostgreSQL by pgjdbc and MySQL by Connector/J, over Java's own TLS. Arguments: `postgresql` or `mysql`, host, port, user, password, `tls` or
 * `plain`, the certificate's file, the prefix, `users` or `databases`, then the features: see common.mjs.
 */
public final class Drivers {
  interface Work {
    void run(Connection c) throws Exception;
  }

  record Feature(Work work, Map<String, String> properties) {}

  private final Map<String, Feature> features = new LinkedHashMap<>();
  private final boolean postgresql;
  private final String[] arguments;
  private final boolean tls;
  private String user;

  private Drivers(String[] arguments) {
    this.arguments = arguments;
    postgresql = arguments[0].equals("postgresql");
    user = arguments[3];
    tls = arguments[5].equals("tls");
    both();
    if (postgresql) onlyPostgresql();
    else onlyMysql();
  }

  private Connection connect(String database, Map<String, String> more) throws Exception {
    Properties properties = new Properties();
    properties.setProperty("user", user);
    properties.setProperty("password", arguments[4]);
    if (postgresql) {
      properties.setProperty("sslmode", tls ? "verify-full" : "disable");
      properties.setProperty("sslrootcert", arguments[6]);
      properties.setProperty("gssEncMode", "disable");
    } else {
      properties.setProperty("sslMode", tls ? "VERIFY_IDENTITY" : "DISABLED");
      properties.setProperty("allowPublicKeyRetrieval", "true");
      if (tls) {
        properties.setProperty("trustCertificateKeyStoreUrl", trustStore().toUri().toString());
        properties.setProperty("trustCertificateKeyStoreType", "PKCS12");
        properties.setProperty("trustCertificateKeyStorePassword", "changeit");
      }
    }
    properties.putAll(more);
    String url = "jdbc:" + arguments[0] + "://" + arguments[1] + ":" + arguments[2] + "/" + database;
    return DriverManager.getConnection(url, properties);
  }

  private Path store;

  private Path trustStore() throws Exception {
    if (store != null) return store;
    store = Files.createTempFile("wirespan-", ".p12");
    store.toFile().deleteOnExit();
    KeyStore keys = KeyStore.getInstance("PKCS12");
    keys.load(null, null);
    try (InputStream in = new FileInputStream(arguments[6])) {
      keys.setCertificateEntry("server", CertificateFactory.getInstance("X.509").generateCertificate(in));
    }
    try (var out = Files.newOutputStream(store)) {
      keys.store(out, "changeit".toCharArray());
    }
    return store;
  }

  private static byte[] blob() {
    byte[] bytes = new byte[100_000];
    for (int index = 0; index < bytes.length; index++) bytes[index] = (byte) (index * 7);
    return bytes;
  }

  private static void run(Connection c, String... texts) throws SQLException {
    try (Statement statement = c.createStatement()) {
      for (String text : texts) statement.execute(text);
    }
  }

  private static void fails(Connection c, String text) throws SQLException {
    try (Statement statement = c.createStatement()) {
      statement.execute(text);
    } catch (SQLException expected) {
      return;
    }
    throw new IllegalStateException("did not fail: " + text);
  }

  private static int rows(Connection c, String text, Object... values) throws SQLException {
    try (PreparedStatement statement = c.prepareStatement(text)) {
      for (int index = 0; index < values.length; index++) statement.setObject(index + 1, values[index]);
      return count(statement.executeQuery());
    }
  }

  private static int count(ResultSet rows) throws SQLException {
    int count = 0;
    while (rows.next()) count++;
    return count;
  }

  private static void expect(boolean condition, String what) {
    if (!condition) throw new IllegalStateException("expected " + what);
  }

  private void add(String name, Work work) {
    features.put(name, new Feature(work, Map.of()));
  }

  private void add(String name, Map<String, String> properties, Work work) {
    features.put(name, new Feature(work, properties));
  }

  private void both() {
    add("plain", c -> {
      run(c, "CREATE TABLE item (id int PRIMARY KEY, name varchar(50))",
          "INSERT INTO item VALUES (1, 'one'), (2, 'it''s two'), (3, 'three')");
      try (Statement statement = c.createStatement()) {
        expect(count(statement.executeQuery("SELECT id, name FROM item WHERE name = 'it''s two'")) == 1, "one row");
      }
      run(c, "UPDATE item SET name = 'changed' WHERE id > 1", "DELETE FROM item WHERE id = 3", "SELECT count(*) FROM item");
    });
    Map<String, String> serverPrepared = postgresql
        ? Map.of("prepareThreshold", "3")
        : Map.of("useServerPrepStmts", "true", "cachePrepStmts", "true");
    add("prepared", serverPrepared, c -> {
      run(c, "CREATE TABLE item (id int PRIMARY KEY, name varchar(50))");
      try (PreparedStatement put = c.prepareStatement("INSERT INTO item VALUES (?, ?)")) {
        for (int id = 0; id < 10; id++) {
          put.setInt(1, id);
          put.setString(2, "n" + id);
          put.execute();
        }
      }
      for (int id = 0; id < 10; id++) expect(rows(c, "SELECT name FROM item WHERE id >= ?", id) == 10 - id, "rows");
    });
    add("errors", serverPrepared, c -> {
      run(c, "CREATE TABLE item (id int PRIMARY KEY)");
      fails(c, "SELECT nope FROM nowhere");
      fails(c, "SELEC 1");
      fails(c, "INSERT INTO item VALUES (1), (1)");
      run(c, "SELECT 1 AS fine");
    });
    add("transaction", c -> {
      run(c, "CREATE TABLE item (id int PRIMARY KEY)");
      c.setAutoCommit(false);
      run(c, "INSERT INTO item VALUES (1)");
      c.commit();
      run(c, "INSERT INTO item VALUES (2)");
      c.rollback();
      c.setAutoCommit(true);
      run(c, "SELECT count(*) FROM item");
    });
    add("binary", serverPrepared, c -> {
      run(c, "CREATE TABLE blobs (data " + (postgresql ? "bytea" : "longblob") + ")");
      try (PreparedStatement put = c.prepareStatement("INSERT INTO blobs VALUES (?)")) {
        put.setBytes(1, blob());
        put.execute();
        if (!postgresql) {
          // COM_STMT_SEND_LONG_DATA.
          put.setBinaryStream(1, new ByteArrayInputStream(blob()), 100_000);
          put.execute();
        }
      }
      try (PreparedStatement get = c.prepareStatement("SELECT data FROM blobs WHERE length(data) > ?")) {
        get.setInt(1, 1);
        ResultSet found = get.executeQuery();
        while (found.next()) expect(Arrays.equals(blob(), found.getBytes(1)), "the same bytes");
      }
    });
    add("nulls", serverPrepared, c -> {
      run(c, "CREATE TABLE item (a int, b varchar(50))");
      try (PreparedStatement put = c.prepareStatement("INSERT INTO item VALUES (?, ?)")) {
        put.setNull(1, Types.INTEGER);
        put.setNull(2, Types.VARCHAR);
        put.execute();
      }
      rows(c, "SELECT a, b, NULL FROM item");
    });
    add("cancel", c -> {
      String text = postgresql ? "SELECT pg_sleep(20)" : "SELECT sleep(20) FROM (SELECT 1 AS one UNION SELECT 2) AS two";
      try (Statement statement = c.createStatement()) {
        Thread canceller = new Thread(() -> {
          try {
            Thread.sleep(300);
            statement.cancel();
          } catch (InterruptedException | SQLException error) {
            throw new IllegalStateException(error);
          }
        });
        canceller.start();
        try {
          statement.execute(text);
          if (postgresql) throw new IllegalStateException("was not cancelled");
        } catch (SQLException expected) {
          // Cancelled.
        }
        canceller.join();
      }
      run(c, "SELECT 1 AS after_cancel");
    });
  }

  private void onlyPostgresql() {
    String large = "SELECT g, repeat('x', 100) AS filler FROM generate_series(1, ?) g";
    add("large", c -> expect(rows(c, large, 20_000) == 20_000, "20,000 rows"));
    // Portals with a row limit.
    add("cursor", c -> {
      c.setAutoCommit(false);
      try (PreparedStatement statement = c.prepareStatement("SELECT g FROM generate_series(1, ?) g")) {
        statement.setFetchSize(7);
        statement.setInt(1, 20);
        expect(count(statement.executeQuery()) == 20, "20 rows");
      }
      try (PreparedStatement statement = c.prepareStatement("SELECT g AS partly FROM generate_series(1, 20) g")) {
        statement.setFetchSize(5);
        statement.executeQuery().next();
      }
      c.commit();
    });
    // Many Executes before one Sync.
    add("pipeline", c -> {
      run(c, "CREATE TABLE item (id int PRIMARY KEY)");
      try (PreparedStatement put = c.prepareStatement("INSERT INTO item VALUES (?)")) {
        for (int id = 0; id < 50; id++) {
          put.setInt(1, id);
          put.addBatch();
        }
        put.executeBatch();
        for (int id : new int[] {60, 1, 61}) {
          put.setInt(1, id);
          put.addBatch();
        }
        try {
          put.executeBatch();
          throw new IllegalStateException("did not fail");
        } catch (SQLException expected) {
          // The second of three.
        }
      }
      run(c, "SELECT count(*) FROM item");
    });
    add("copy", c -> {
      run(c, "CREATE TABLE item (id int, name text)");
      StringBuilder lines = new StringBuilder();
      for (int id = 0; id < 1000; id++) lines.append(id).append("\tname ").append(id).append('\n');
      var copies = c.unwrap(PGConnection.class).getCopyAPI();
      expect(copies.copyIn("COPY item FROM STDIN", new StringReader(lines.toString())) == 1000, "1,000 rows");
      expect(copies.copyOut("COPY item TO STDOUT", new ByteArrayOutputStream()) == 1000, "1,000 rows");
    });
    add("multi", c -> {
      run(c, "SELECT 1 AS a; SELECT g AS b FROM generate_series(1, 3) g; CREATE TABLE made (id int)");
    });
  }

  private void onlyMysql() {
    String large = "WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 100)"
        + " SELECT a.n, repeat('x', 100) AS filler FROM seq a, seq b LIMIT 10000";
    add("large", Map.of("useServerPrepStmts", "true"), c -> {
      expect(rows(c, large) == 10_000, "10,000 rows");
      try (Statement statement = c.createStatement(ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY)) {
        statement.setFetchSize(Integer.MIN_VALUE);
        expect(count(statement.executeQuery(large)) == 10_000, "10,000 rows");
      }
    });
    // COM_STMT_FETCH.
    add("cursor", Map.of("useCursorFetch", "true", "useServerPrepStmts", "true", "defaultFetchSize", "100"), c -> {
      run(c, "CREATE TABLE item (id int PRIMARY KEY)", "INSERT INTO item SELECT seq FROM seq_1_to_1000");
      expect(rows(c, "SELECT id FROM item WHERE id > ?", 0) == 1000, "1,000 rows");
      run(c, "SELECT 1 AS after_cursor");
    });
    add("multi", Map.of("allowMultiQueries", "true"), c -> {
      run(c, "SELECT 1 AS a; SELECT 2 AS b UNION SELECT 3; CREATE TABLE made (id int)");
      try (Statement statement = c.createStatement()) {
        statement.execute("SELECT 1 AS good; SELECT nope AS bad; SELECT 3 AS never");
        statement.getMoreResults();
        throw new IllegalStateException("did not fail");
      } catch (SQLException expected) {
        // The second of three.
      }
    });
    add("bulk", Map.of("rewriteBatchedStatements", "true"), c -> {
      run(c, "CREATE TABLE item (id int PRIMARY KEY, name varchar(50))");
      try (PreparedStatement put = c.prepareStatement("INSERT INTO item VALUES (?, ?)")) {
        for (int id = 0; id < 500; id++) {
          put.setInt(1, id);
          put.setString(2, "name " + id);
          put.addBatch();
        }
        put.executeBatch();
      }
    });
    add("call", c -> {
      run(c, "CREATE PROCEDURE twice (IN n int) BEGIN SELECT n AS once; SELECT n * 2 AS doubled; END");
      try (var call = c.prepareCall("{CALL twice(?)}")) {
        call.setInt(1, 21);
        call.execute();
        while (call.getMoreResults()) count(call.getResultSet());
      }
    });
    add("compress", Map.of("useCompression", "true"), c -> {
      expect(rows(c, large) == 10_000, "10,000 rows");
      run(c, "SELECT 1 AS small");
    });
    add("session", c -> {
      c.isValid(5);
      String database = c.getCatalog();
      c.setCatalog(database.replace("_session", "_plain"));
      run(c, "SELECT count(*) AS elsewhere FROM item");
      c.setCatalog(database);
      run(c, "SELECT 1 AS after_change");
    });
  }

  private void pool(String database) throws Exception {
    Exception[] failure = new Exception[1];
    Thread[] threads = new Thread[4];
    for (int thread = 0; thread < threads.length; thread++) {
      threads[thread] = new Thread(() -> {
        try (Connection c = connect(database, Map.of())) {
          for (int index = 0; index < 10; index++) rows(c, "SELECT ? AS pooled", index);
        } catch (Exception error) {
          failure[0] = error;
        }
      });
      threads[thread].start();
    }
    for (Thread thread : threads) thread.join();
    if (failure[0] != null) throw failure[0];
  }

  private void feature(String name) throws Exception {
    String own = arguments[7] + "_" + name;
    boolean users = arguments[8].equals("users");
    String database = users ? arguments[7] : own;
    if (users) user = own;
    if (name.equals("pool")) {
      pool(database);
      return;
    }
    Feature feature = features.get(name);
    if (feature == null) throw new IllegalStateException("no such feature");
    try (Connection c = connect(database, feature.properties())) {
      feature.work().run(c);
    }
  }

  private static String quoted(String text) {
    return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n").replace("\t", " ").replace("\r", "") + '"';
  }

  public static void main(String[] arguments) throws InterruptedException {
    Drivers drivers = new Drivers(arguments);
    boolean failed = false;
    for (String name : Arrays.asList(arguments).subList(9, arguments.length)) {
      long startMs = System.currentTimeMillis();
      String result;
      try {
        drivers.feature(name);
        result = "\"ok\":true";
      } catch (Exception error) {
        failed = true;
        var trace = new java.io.StringWriter();
        error.printStackTrace(new java.io.PrintWriter(trace));
        result = "\"ok\":false,\"error\":" + quoted(trace.toString());
      }
      String times = ",\"startMs\":" + startMs + ",\"endMs\":" + System.currentTimeMillis();
      // What is told by its time keeps its distance.
      Thread.sleep(20);
      System.out.println("{\"feature\":" + quoted(name) + "," + result + times + "}");
    }
    System.exit(failed ? 1 : 0);
  }
}
