package example;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolver;

/**
 * A broker for all tests of a run: annotate the class with {@code @ExtendWith(Apogee.class)} and take an
 * {@code Apogee} as a parameter. APOGEE_BIN names the binary; otherwise it is {@code apogee} on the PATH.
 */
public final class Apogee implements ParameterResolver, ExtensionContext.Store.CloseableResource {
    private static final Pattern NAMESRV = Pattern.compile("\"namesrv\":\"([^\"]+)\"");

    private Process process;
    private String namesrvAddr;

    /** Where clients connect, host:port. */
    public String namesrvAddr() {
        return namesrvAddr;
    }

    private Apogee start() {
        String bin = System.getenv().getOrDefault("APOGEE_BIN", "apogee");
        try {
            process = new ProcessBuilder(bin, "start", "--in-memory", "--json", "--log-level", "warn")
                .redirectError(ProcessBuilder.Redirect.INHERIT).start();
            Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
            // The only line that it prints, once it is ready.
            String line = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8)).readLine();
            Matcher info = NAMESRV.matcher(line == null ? "" : line);
            if (!info.find()) {
                throw new IllegalStateException(bin + " did not start; it said: " + line);
            }
            namesrvAddr = info.group(1);
            return this;
        } catch (IOException e) {
            throw new IllegalStateException("cannot run " + bin + ": put apogee on the PATH, or name it with APOGEE_BIN", e);
        }
    }

    @Override
    public void close() {
        process.destroy();
    }

    @Override
    public boolean supportsParameter(ParameterContext parameter, ExtensionContext context) {
        return parameter.getParameter().getType() == Apogee.class;
    }

    @Override
    public Object resolveParameter(ParameterContext parameter, ExtensionContext context) {
        return context.getRoot().getStore(ExtensionContext.Namespace.GLOBAL)
            .getOrComputeIfAbsent(Apogee.class, key -> new Apogee().start());
    }
}
