package bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The benchmark's interest-vector job on Kafka Streams: decode, state = state * decay + item, one output per event.
 *
 * <p>In: bootstrap, source topic, output topic, application id, item vectors (raw float32, little endian), state
 * folder, then any Streams settings as key=value. Runs until SIGTERM. The measuring is done from outside.
 */
public final class InterestJob {
  private static final int DIM = 64;
  private static final int OUTPUT_BYTES = 200;
  private static final float DECAY = 0.9f;
  private static final String STORE = "interests";

  private static final class Fold implements FixedKeyProcessor<String, byte[], byte[]> {
    private final ObjectMapper json = new ObjectMapper();
    private final Map<String, float[]> vectors;
    private FixedKeyProcessorContext<String, byte[]> context;
    private KeyValueStore<String, byte[]> interests;

    Fold(Map<String, float[]> vectors) {
      this.vectors = vectors;
    }

    @Override
    public void init(FixedKeyProcessorContext<String, byte[]> context) {
      this.context = context;
      this.interests = context.getStateStore(STORE);
    }

    @Override
    public void process(FixedKeyRecord<String, byte[]> click) {
      long pickedUp = nowMicros();
      JsonNode fields;
      try {
        fields = json.readTree(click.value());
      } catch (IOException malformed) {
        throw new IllegalStateException(malformed);
      }
      String user = fields.get("user_id").asText();
      float[] item = vectors.get(fields.get("item_id").asText());
      byte[] before = interests.get(user);
      ByteBuffer after = littleEndian(DIM * Float.BYTES);
      if (before == null) {
        for (float x : item) after.putFloat(x);
      } else {
        ByteBuffer old = ByteBuffer.wrap(before).order(ByteOrder.LITTLE_ENDIAN);
        for (float x : item) after.putFloat(old.getFloat() * DECAY + x);
      }
      interests.put(user, after.array());
      ByteBuffer output = littleEndian(OUTPUT_BYTES);
      output.putLong(context.recordMetadata().orElseThrow().offset());
      output.putLong(pickedUp).putLong(nowMicros());
      context.forward(click.withValue(output.array()));
    }
  }

  private static ByteBuffer littleEndian(int bytes) {
    return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static long nowMicros() {
    return ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now());
  }

  private static Map<String, float[]> readVectors(Path path) throws IOException {
    ByteBuffer raw = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
    Map<String, float[]> vectors = new HashMap<>();
    for (int row = 0; raw.hasRemaining(); row++) {
      float[] vector = new float[DIM];
      for (int i = 0; i < DIM; i++) vector[i] = raw.getFloat();
      vectors.put("i" + row, vector);
    }
    return vectors;
  }

  public static void main(String[] args) throws Exception {
    String source = args[1];
    String output = args[2];
    Map<String, float[]> vectors = readVectors(Path.of(args[4]));
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[3]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    for (int i = 6; i < args.length; i++) {
      String[] pair = args[i].split("=", 2);
      settings.put(pair[0], pair[1]);
    }

    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(
        Stores.keyValueStoreBuilder(
            Stores.inMemoryKeyValueStore(STORE), Serdes.String(), Serdes.ByteArray()));
    builder.stream(source, Consumed.with(Serdes.String(), Serdes.ByteArray()))
        .processValues(() -> new Fold(vectors), STORE)
        .to(output, Produced.with(Serdes.String(), Serdes.ByteArray()));

    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    CountDownLatch stopped = new CountDownLatch(1);
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  streams.close(Duration.ofSeconds(3));
                  stopped.countDown();
                }));
    streams.start();
    stopped.await();
  }
}
