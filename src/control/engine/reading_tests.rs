use super::{Reading, read};

#[test]
fn vllm_today_and_with_two_ranks() {
    let page = "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\n\
        vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 4.0\n\
        vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 1.0\n\
        vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.25\n\
        vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"m\"} 0.75\n\
        vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"m\"} 5293.0\n\
        vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"m\"} 1600.0\n\
        vllm:prompt_tokens_total{engine=\"0\",model_name=\"m\"} 5293.0\n\
        vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"sql,legal\",waiting_lora_adapters=\"sql\"} 1\n\
        vllm:cache_config_info{block_size=\"32\",kv_cache_size_tokens=\"131072\",num_gpu_blocks=\"4096\"} 1.0\n\
        process_start_time_seconds 1795142000.5\n";
    let expected = Reading {
        running: Some(7),
        waiting: Some(1),
        kv_use: Some(0.5),
        kv_tokens: Some(131_072),
        block_tokens: Some(32),
        prefix_queries: Some(5293.0),
        prefix_hits: Some(1600.0),
        adapters: Some(vec!["sql".into(), "legal".into()]),
        started: Some(1_795_142_000.5),
        prompt_tokens: Some(5293.0),
    };
    assert_eq!(read(page), Some(expected));
}

#[test]
fn vllm_as_it_was() {
    let page = "vllm:num_requests_running{model_name=\"m\"} 2\nvllm:gpu_cache_usage_perc{model_name=\"m\"} 0.1\n\
        vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1000\",num_cpu_blocks=\"512\"} 1.0\n";
    let reading = read(page).unwrap();
    assert_eq!((reading.running, reading.waiting), (Some(2), None));
    assert_eq!((reading.kv_use, reading.kv_tokens), (Some(0.1), Some(16_000)));
}

#[test]
fn sglang() {
    let page = "sglang:num_running_reqs{model_name=\"m\"} 8\nsglang:num_queue_reqs{model_name=\"m\"} 2\n\
        sglang:token_usage{model_name=\"m\"} 0.28\nsglang:max_total_num_tokens{model_name=\"m\"} 161721\n\
        sglang:cached_tokens_total{cache_source=\"device\"} 10\nsglang:cached_tokens_total{cache_source=\"host\"} 5\n";
    let reading = read(page).unwrap();
    assert_eq!((reading.running, reading.waiting), (Some(8), Some(2)));
    assert_eq!((reading.kv_use, reading.kv_tokens), (Some(0.28), Some(161_721)));
    assert_eq!(reading.prefix_hits, Some(15.0));
}

#[test]
fn llama_cpp_has_no_cache_to_speak_of() {
    let page = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\nllamacpp:prompt_tokens_total 11\n\
        llamacpp:prompt_tokens_cached_total 16\n";
    let reading = read(page).unwrap();
    assert_eq!((reading.running, reading.waiting, reading.kv_use), (Some(1), Some(0), None));
    assert_eq!((reading.prompt_tokens, reading.prefix_hits), (Some(11.0), Some(16.0)));
}

#[test]
fn tensorrt_llm_in_all_its_shapes() {
    let json = r#"[{"iter": 1, "numActiveRequests": 9}, {"iter": 2, "numActiveRequests": 3, "numQueuedRequests": 1,
        "kvCacheStats": {"maxNumBlocks": 101, "usedNumBlocks": 50, "tokensPerBlock": 32, "cacheHitRate": 0.5}}]"#;
    let reading = read(json).unwrap();
    assert_eq!((reading.running, reading.waiting), (Some(3), Some(1)));
    assert_eq!((reading.kv_tokens, reading.block_tokens), (Some(3232), Some(32)));
    let triton = "nv_trt_llm_request_metrics{model=\"m\",request_type=\"waiting\",version=\"1\"} 2\n\
        nv_trt_llm_request_metrics{model=\"m\",request_type=\"scheduled\",version=\"1\"} 5\n\
        nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\",model=\"m\"} 0.5\n\
        nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\",model=\"m\"} 64\n\
        nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\",model=\"m\"} 100\n";
    let reading = read(triton).unwrap();
    assert_eq!((reading.running, reading.waiting, reading.kv_use), (Some(5), Some(2), Some(0.5)));
    assert_eq!(reading.kv_tokens, Some(6400));
    assert_eq!(read("trtllm_kv_cache_utilization 0.4\n").unwrap().kv_use, Some(0.4));
}

#[test]
fn pages_of_something_else_say_nothing() {
    for page in
        ["", "<html>", "go_goroutines 7\nprocess_start_time_seconds 1\n", "{\"a\": 1}", "[{\"a\":"]
    {
        assert_eq!(read(page), None, "{page}");
    }
    assert_eq!(read("vllm:num_requests_running NaN\n"), None);
}
