package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.filter.FilterFactory;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;
import org.junit.jupiter.api.Test;

/** The table by which Apogee's SQL92 expressions are tested says what RocketMQ's own rocketmq-filter makes of them. */
class SqlTableTest {
    private static final Path TABLE = Path.of("..", "..", "filter", "testdata", "sql92.txt");

    @Test
    void expressionsMeanWhatTheTableSays() throws Exception {
        List<String> wrong = new ArrayList<>();
        int rows = 0;
        for (String line : Files.readAllLines(TABLE)) {
            if (line.startsWith("#")) {
                continue;
            }
            String[] parts = line.split(" \\| ", -1);
            assertEquals(3, parts.length, line);
            rows++;
            String got = outcome(parts[0].replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r"), properties(parts[1]));
            if (!got.equals(parts[2])) {
                wrong.add(line + ": RocketMQ says " + got);
            }
        }
        assertEquals(List.of(), wrong);
        assertTrue(rows >= 150, rows + " rows");
    }

    private static Map<String, Object> properties(String pairs) {
        Map<String, Object> properties = new HashMap<>();
        for (String pair : pairs.split("&")) {
            int separator = pair.indexOf('=');
            if (separator >= 0 && separator < pair.length() - 1) { // an empty value is not kept in a message
                properties.put(pair.substring(0, separator), pair.substring(separator + 1));
            }
        }
        return properties;
    }

    private static String outcome(String expression, Map<String, Object> properties) {
        Expression compiled;
        try {
            compiled = FilterFactory.INSTANCE.get("SQL92").compile(expression);
        } catch (Exception e) {
            return "refused";
        }
        try {
            return String.valueOf(compiled.evaluate(new EvaluationContext() {
                @Override
                public Object get(String name) {
                    return properties.get(name);
                }

                @Override
                public Map<String, Object> keyValues() {
                    return properties;
                }
            }));
        } catch (Exception e) {
            return "fault";
        }
    }
}
