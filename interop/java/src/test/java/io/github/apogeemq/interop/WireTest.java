package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.junit.jupiter.api.Test;

/** That this JVM speaks what the run is about: see the executions in pom.xml. */
class WireTest {
    @Test
    void headersAreSerialisedAsThisRunAsks() {
        assertEquals(System.getProperty("interop.headers", "JSON"),
            RemotingCommand.getSerializeTypeConfigInThisServer().name());
    }

    @Test
    void clientsUseTlsWhenThisRunAsksForIt() throws Exception {
        assertEquals(Boolean.getBoolean("interop.tls"), new ClientConfig().isUseTLS());
        try (Clients clients = Clients.shared()) {
            assertEquals(Boolean.getBoolean("interop.tls"), clients.producer().isUseTLS());
        }
    }
}
